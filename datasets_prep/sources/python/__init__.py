"""Sources from Python packages."""
