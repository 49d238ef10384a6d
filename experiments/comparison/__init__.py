"""Conditions, results, differences between conditions, and what they say: what all comparisons share."""
