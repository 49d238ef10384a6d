"""`cdl bench`: runs the same work by this package, by peers and by its physical limit, in turn."""
