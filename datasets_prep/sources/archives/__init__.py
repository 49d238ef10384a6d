"""Sources inside tar files."""
