"""Signals in, shards out: sources of images, arrays and audio, their preparation, and the job that encodes them once.

Names, listed in `__init__.pyi`, are imported on first use: decoding workers import this package too, and must start
without torch or `datasets`.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
