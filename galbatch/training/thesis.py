"""Later."""
train_thesis = None
