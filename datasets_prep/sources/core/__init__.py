"""What a source is, and the parts that sources are made of."""
