"""`cdl prepare` and the other commands that create and maintain data sets."""
