"""What a run leaves: Parquet on the sky, receipts, quarantine; every path and every commit."""
