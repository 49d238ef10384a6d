"""Probes: simple classifiers on features of stored latents, without training a network."""
