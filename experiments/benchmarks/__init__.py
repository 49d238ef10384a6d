"""What `cdl bench` measures: the same work by this package, by others, and by nothing but its limit, in turn."""
