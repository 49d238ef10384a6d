"""`cdl prepare` and the other commands that make and keep data sets."""
