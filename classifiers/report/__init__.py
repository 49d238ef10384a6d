"""The page of a run: one HTML file with its curves, its errors and its figures."""
