"""Jobs whose source is a stream: planned, encoded and resumed in the stream's order, and completed as any other job."""
