"""Comparisons that train a network in each condition, with several seeds."""
