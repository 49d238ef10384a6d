"""The training loop for models on stored latents: it takes a model and a step, and writes a run's folder.

Names, listed in `__init__.pyi`, are imported on first use, so that the command line reads the settings without torch.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
