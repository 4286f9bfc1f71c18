"""How good predictions are, and how to make their errors honest."""
