"""`cdl train` and `cdl evaluate`."""
