"""Compressed-domain learning: encode a data set once into small latents, train classifiers on them.

Names are imported on first use, so that `import walloc_cdl` (and with it `cdl --help`) is instant
and does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from walloc_cdl.version import __version__

_HOMES = {
    "CallError": "walloc_cdl.errors",
    "CdlError": "walloc_cdl.errors",
    "DamagedError": "walloc_cdl.errors",
    "LatentSpec": "walloc_cdl.spec",
    "Codec": "walloc_cdl.codec",
    "ResizeCodec": "walloc_cdl.codec",
    "WallocCodec1D": "walloc_cdl.codec",
    "WallocCodec2D": "walloc_cdl.codec",
    "load_codec": "walloc_cdl.codec",
    "LatentDataset": "walloc_cdl.data",
    "LatentLoader": "walloc_cdl.data",
    "ModelInput": "walloc_cdl.data",
    "open_latents": "walloc_cdl.data",
}

__all__ = [
    "CallError",
    "CdlError",
    "Codec",
    "DamagedError",
    "LatentDataset",
    "LatentLoader",
    "LatentSpec",
    "ModelInput",
    "ResizeCodec",
    "WallocCodec1D",
    "WallocCodec2D",
    "__version__",
    "load_codec",
    "open_latents",
]

if TYPE_CHECKING:
    from walloc_cdl.codec import Codec, ResizeCodec, WallocCodec1D, WallocCodec2D, load_codec
    from walloc_cdl.data import LatentDataset, LatentLoader, ModelInput, open_latents
    from walloc_cdl.errors import CallError, CdlError, DamagedError
    from walloc_cdl.spec import LatentSpec


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'walloc_cdl' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
