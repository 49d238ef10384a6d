"""Questions put to the rest: rate–distortion, throughput, and latents against resolution reduction."""
