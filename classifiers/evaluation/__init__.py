"""Predictions of classifiers and their metrics."""
