"""Closed-form fits of codecs and linear syntheses to signals."""
