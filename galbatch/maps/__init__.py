"""Maps and clusters of points in a space: arrays in, arrays out, a part of the rows at a time."""
