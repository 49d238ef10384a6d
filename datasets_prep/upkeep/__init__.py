"""Upkeep of finished data sets: dropping samples, merging, splitting, repairing."""
