"""Sources of arrays and audio."""
