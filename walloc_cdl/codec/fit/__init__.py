"""Codecs and linear syntheses in closed form, fitted to signals."""
