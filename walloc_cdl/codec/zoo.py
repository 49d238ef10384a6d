"""Codecs by name: those that ship with the package, resolution reduction, and folders."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from walloc_cdl.codec.base import Codec
from walloc_cdl.codec.checkpoint import load_codec_folder
from walloc_cdl.codec.resize import ResizeCodec, ResizeConfig
from walloc_cdl.errors import CallError, unknown_name

ZOO = Path(__file__).parent / "zoo"
CHANNELS = {"gray": 1, "rgb": 3}
RESIZE_NAME = re.compile(r"resize-(gray|rgb)-(\d+)x")


def zoo_names() -> list[str]:
    """Names of the codecs that ship with the package."""
    return sorted(path.name for path in ZOO.iterdir() if (path / "config.json").is_file()) if ZOO.is_dir() else []


def load_codec(name: str | os.PathLike[str]) -> Codec:
    """A codec by zoo name (`rgb-16x`), as resolution reduction (`resize-rgb-16x`), or from a folder.

    The number is the reduction in values, so `resize-rgb-16x` makes an image a quarter as wide and
    high. Raises `CallError`, with the nearest names, for an unknown one.
    """
    text = os.fspath(name)
    if text in zoo_names():
        return load_codec_folder(ZOO / text)
    if match := RESIZE_NAME.fullmatch(text):
        factor = math.isqrt(int(match[2]))
        if factor < 1 or factor**2 != int(match[2]):
            raise CallError(f"codec {text!r}: {match[2]} is not the square of a whole factor, as 4, 16 or 64 are")
        return ResizeCodec(ResizeConfig(channels=CHANNELS[match[1]], factor=factor, name=text))
    if Path(text).is_dir():
        return load_codec_folder(text)
    known = [*zoo_names(), "resize-rgb-16x", "resize-rgb-4x", "resize-gray-16x", "resize-gray-4x"]
    raise unknown_name(
        "codec", text, known, "`cdl codec list` shows all, and a folder made by `cdl codec fit` works too"
    )
