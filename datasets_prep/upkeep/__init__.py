"""Upkeep of finished data sets: extending, dropping samples, merging, splitting, repairing."""
