"""The published encoder and decoder networks, with the names of their published weights."""
