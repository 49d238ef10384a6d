"""The published encoder and decoder networks; modules are named as in the published weights."""
