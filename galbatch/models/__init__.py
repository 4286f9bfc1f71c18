"""Networks that predict, with what is needed to use them."""
