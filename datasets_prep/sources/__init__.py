"""Where signals come from: folders, tables, tars, arrays, data sets of other packages, a built-in sample."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_prep.sources.core.source import Source, SplitListing, Stray
from walloc_cdl.addresses import is_chained
from walloc_cdl.errors import CallError, unknown_name
from walloc_cdl.latents import UNKNOWN_LABEL

if TYPE_CHECKING:
    from datasets_prep.sources.core.streaming_source import StreamingSource

__all__ = ["UNKNOWN_LABEL", "Source", "SplitListing", "Stray", "names_stream", "open_source", "open_stream"]

SAMPLES = ("elpv",)

OPENERS = {
    "audiofolder": ("audiofolder:PATH", "signals.audiofolder:open_sounds"),
    "csv": ("csv:PATH", "folders.csv_table:open_csv"),
    "hf": ("hf:NAME[:CONFIG]", "hubs.huggingface:open_hub"),
    "imagefolder": ("imagefolder:PATH", "folders.imagefolder:open_images"),
    "imagenet": ("imagenet:PATH", "archives.imagenet:open_imagenet"),
    "mat": ("mat:PATH", "signals.arrays:open_mat"),
    "npy": ("npy:PATH", "signals.arrays:open_npy"),
    "parquet": ("parquet:PATTERN", "folders.parquet:open_parquet"),
    "torchvision": ("torchvision:NAME?root=PATH", "python.torchvision_sets:open_torchvision"),
    "webdataset": ("webdataset:PATTERN", "archives.webdataset:open_webdataset"),
}
"""Maps each scheme to its form and to the function that opens it. Modules are imported only when they are needed."""

FORMS = ", ".join(form for form, _ in OPENERS.values()) + " or sample:elpv"


def open_source(text: str) -> Source:
    """Open the source `SCHEME:LOCATION[?option=value&…]`; a bare PATH is an image folder.

    `docs/sources.md` describes schemes and options. Raises `CallError` for anything that cannot be opened.
    """
    _refuse_chain(text)
    text = os.path.expanduser(text)
    scheme, colon, rest = text.partition(":")
    if Path(text).is_dir() or not colon:
        scheme, rest = "imagefolder", text
    if not rest:
        raise CallError(f"source {text!r} is incomplete; expected {FORMS}")
    rest = os.path.expanduser(rest)  # a shell does not expand a ~ that follows a colon
    if scheme in OPENERS:
        module, _, function = OPENERS[scheme][1].partition(":")
        return getattr(importlib.import_module(f"datasets_prep.sources.{module}"), function)(rest)
    if scheme != "sample":
        raise unknown_name("source scheme", scheme, (*OPENERS, "sample"), f"expected {FORMS}")
    if rest not in SAMPLES:
        raise unknown_name("sample", rest, SAMPLES, "the samples are: elpv")
    from datasets_prep.sources.python.elpv import ElpvSource

    return ElpvSource()


def _refuse_chain(text: str) -> None:
    """Raise `CallError` for a chain of URLs, which would be taken for a path."""
    for address in (text, text.partition(":")[2]):
        if is_chained(address):
            raise CallError(
                f"{address!r} is a chain of URLs; give the URL of the files themselves, or download them, and name "
                "their local path"
            )


def names_stream(text: str) -> bool:
    """Return whether `text` names a stream, `hf:NAME?streaming=1`."""
    scheme, _, rest = text.partition(":")
    return scheme == "hf" and "streaming=1" in rest.rpartition("?")[2].split("&")


def open_stream(text: str) -> StreamingSource:
    """Open `hf:NAME[:CONFIG]?streaming=1`, which allows iteration only; raises `CallError` for any other source."""
    _refuse_chain(text)
    rest = text.removeprefix("hf:")
    if not names_stream(text):
        raise CallError(f"source {text!r} is not a stream; expected hf:NAME?streaming=1; use open_source() for others")
    from datasets_prep.sources.hubs.hf_stream import open_hub_stream

    return open_hub_stream(rest)
