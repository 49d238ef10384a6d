"""Jobs whose source is a stream: planned, encoded and resumed as the samples come, then finished as any other."""
