"""Sources of arrays and of sound."""
