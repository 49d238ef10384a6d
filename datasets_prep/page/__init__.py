"""The page of a data set: what is stored, what it looks like, and what was left out."""
