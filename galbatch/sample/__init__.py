"""Which rows teach: labels, the split, the census of what is to be predicted, weights, lineage."""
