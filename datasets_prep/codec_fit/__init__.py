"""Fitting codecs to sources."""
