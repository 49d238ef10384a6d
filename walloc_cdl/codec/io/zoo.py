"""Loading of codecs by name: codecs of the package, resolution reduction, folders, and published codecs."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from walloc_cdl.addresses import local_path
from walloc_cdl.codec.base import Codec
from walloc_cdl.codec.families.resize import ResizeCodec, ResizeConfig
from walloc_cdl.codec.families.resize_1d import ResizeCodec1D, ResizeConfig1D
from walloc_cdl.codec.io.folder import load_codec_folder
from walloc_cdl.codec.io.hub import HUB_PREFIX, load_from_hub
from walloc_cdl.codec.io.published import load_published
from walloc_cdl.errors import CallError, unknown_name

ZOO = Path(__file__).parent / "zoo"
CHANNELS = {"gray": 1, "rgb": 3, "mono": 1, "stereo": 2}
RESIZE_NAME = re.compile(r"resize-(gray|rgb|mono|stereo)-(\d{1,9})x")


def zoo_names() -> list[str]:
    """Return the names of the codecs that ship with the package."""
    return sorted(path.name for path in ZOO.iterdir() if (path / "config.json").is_file()) if ZOO.is_dir() else []


def load_codec(name: str | os.PathLike[str]) -> Codec:
    """Return a codec by zoo name (`rgb-16x`), resolution reduction (`resize-rgb-16x`), folder, or published name.

    Published codecs are given by their `.pth` file, with its `.json` next to it, or as `hub:OWNER/REPO[/FILE]`.

    The number is the reduction in values: `resize-rgb-16x` reduces width and height to a quarter, and `resize-mono-4x`
    the number of samples. Raises `CallError`, with the nearest names, for an unknown name.
    """
    text = os.fspath(name)
    if text in zoo_names():
        return load_codec_folder(ZOO / text)
    if match := RESIZE_NAME.fullmatch(text):
        return _resize_codec(text, match[1], int(match[2]))
    if text.startswith(HUB_PREFIX):
        return load_from_hub(text)
    if local_path(text).is_dir():
        return load_codec_folder(text)
    if text.endswith(".pth"):
        return load_published(text)
    known = [
        *zoo_names(),
        "resize-rgb-16x",
        "resize-rgb-4x",
        "resize-gray-16x",
        "resize-gray-4x",
        "resize-mono-4x",
        "resize-stereo-4x",
    ]
    raise unknown_name(
        "codec", text, known, "`cdl codec list` shows all, and a folder written by `cdl codec fit` works as well"
    )


def _resize_codec(name: str, source: str, reduction: int) -> Codec:
    channels = CHANNELS[source]
    if source in ("mono", "stereo"):
        return ResizeCodec1D(ResizeConfig1D(channels=channels, factor=reduction, name=name))
    factor = math.isqrt(reduction)
    if factor < 1 or factor**2 != reduction:
        raise CallError(f"codec {name!r}: {reduction} is not the square of a whole factor, such as 4, 16 or 64")
    return ResizeCodec(ResizeConfig(channels=channels, factor=factor, name=name))
