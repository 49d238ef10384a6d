"""Sources made of Python objects, and of data sets that Python packages bring."""
