"""Single signals and whole data sets as entropy-coded archives."""
