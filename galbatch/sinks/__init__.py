"""Databases that predictions are appended to."""
