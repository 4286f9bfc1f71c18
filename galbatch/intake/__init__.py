"""A file's columns made the survey's: exact ids, positions in degrees, values in its units."""
