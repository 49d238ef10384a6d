"""Sources that are folders and tables of files, on this machine or at URLs."""
