"""Augmentation of stored latents beside augmentation before encoding."""
