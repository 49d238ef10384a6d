"""Experiments: rate and distortion of codecs, throughput, and latents against resolution reduction."""
