"""The plan minus its receipts, carried out: serially, or the same thing on Dask."""
