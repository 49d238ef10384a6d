"""timm models on stored latents, with their training and evaluation.

The names listed in `__init__.pyi` are imported on first use, since timm and scikit-learn take seconds to import.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
