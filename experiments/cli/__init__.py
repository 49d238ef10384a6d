"""`cdl compare`, `cdl bench`, and the commands that measure codecs."""
