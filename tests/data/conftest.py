"""Tests of the reading side use the data sets of the format's tests."""
