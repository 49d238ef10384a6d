"""Compressed-domain learning: encode a data set once into small latents and train classifiers on them.

Names, listed in `__init__.pyi`, are imported on first use, so that `import walloc_cdl` (and with it `cdl --help`) is
instant and does not load torch.
"""

from __future__ import annotations

import lazy_loader

from walloc_cdl.version import __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
