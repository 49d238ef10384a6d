"""Comparisons of sound by cross-validation: latents against resampled waveforms."""
