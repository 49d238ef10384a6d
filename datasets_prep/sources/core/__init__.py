"""The interface of a source, and the parts that sources are built from."""
