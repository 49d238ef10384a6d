"""Sources that are folders or tables of files, local or at URLs."""
