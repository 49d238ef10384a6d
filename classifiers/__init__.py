"""Latents in, logits out: timm models behind a latent stem, their training and their evaluation.

Names, listed in `__init__.pyi`, are imported on first use: timm and scikit-learn take seconds.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
