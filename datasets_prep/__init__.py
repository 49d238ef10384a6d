"""Signals in, shards out: sources of images, arrays and audio, their preparation, and the job that encodes them once.

Names are imported on first use: decoding workers import this package too, and must start without
torch or `datasets`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "HuggingFaceStream": "datasets_prep.sources.hubs.hf_stream",
    "IterableSource": "datasets_prep.sources.python.iterable_source",
    "MapSource": "datasets_prep.sources.python.map_source",
    "PrepareConfig": "datasets_prep.job.config",
    "Progress": "datasets_prep.job.progress",
    "Source": "datasets_prep.sources",
    "StreamingSource": "datasets_prep.sources.core.streaming_source",
    "contact_sheet": "datasets_prep.preview",
    "decode_files": "datasets_prep.archives.single_files",
    "encode_files": "datasets_prep.archives.single_files",
    "holdout": "datasets_prep.sources.core.splits",
    "limit": "datasets_prep.sources.core.splits",
    "load_native": "datasets_prep.decode.images",
    "load_pixels": "datasets_prep.decode.images",
    "open_source": "datasets_prep.sources",
    "open_stream": "datasets_prep.sources",
    "prepare": "datasets_prep.prepare_local",
    "prepare_to": "datasets_prep.prepare_remote",
}

__all__ = [
    "HuggingFaceStream",
    "IterableSource",
    "MapSource",
    "PrepareConfig",
    "Progress",
    "Source",
    "StreamingSource",
    "contact_sheet",
    "decode_files",
    "encode_files",
    "holdout",
    "limit",
    "load_native",
    "load_pixels",
    "open_source",
    "open_stream",
    "prepare",
    "prepare_to",
]

if TYPE_CHECKING:
    from datasets_prep.archives.single_files import decode_files, encode_files
    from datasets_prep.decode.images import load_native, load_pixels
    from datasets_prep.job.config import PrepareConfig
    from datasets_prep.job.progress import Progress
    from datasets_prep.prepare_local import prepare
    from datasets_prep.prepare_remote import prepare_to
    from datasets_prep.preview import contact_sheet
    from datasets_prep.sources import Source, open_source, open_stream
    from datasets_prep.sources.core.splits import holdout, limit
    from datasets_prep.sources.core.streaming_source import StreamingSource
    from datasets_prep.sources.hubs.hf_stream import HuggingFaceStream
    from datasets_prep.sources.python.iterable_source import IterableSource
    from datasets_prep.sources.python.map_source import MapSource


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'datasets_prep' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
