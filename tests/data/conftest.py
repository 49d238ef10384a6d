"""Tests of readers use the data sets of the tests of the format."""
