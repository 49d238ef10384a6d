"""Loading of codecs from folders, published checkpoints, the Hugging Face Hub, and the package itself."""
