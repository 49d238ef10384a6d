"""timm models behind a latent stem, and models of pixels."""
