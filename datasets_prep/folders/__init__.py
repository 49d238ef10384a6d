"""Folders of data sets: locks, verified reads, copies of samples, folders derived from finished data sets."""
