"""Property tests draw the same examples on every run: what passes once passes again."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")
