"""Where codecs come from: folders, published checkpoints, the Hugging Face Hub, the ones that ship with the package."""
