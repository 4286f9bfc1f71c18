"""Later."""
VERSION = 1
Thesis = None
