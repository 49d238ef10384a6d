"""Linear maps of latents that a data set stores: the synthesis of pixels, and operators; a part of the base."""
