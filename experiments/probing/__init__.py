"""Comparisons without training: frozen features of what each condition shows, and a linear classifier on them."""
