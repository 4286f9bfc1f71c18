"""From labelled rows to models."""
