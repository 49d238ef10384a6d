"""Entropy-coded archives of single signals and of whole data sets."""
