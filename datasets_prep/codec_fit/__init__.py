"""Codecs fitted to sources."""
