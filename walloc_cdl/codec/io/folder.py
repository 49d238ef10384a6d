"""Loading of codecs from folders that hold `config.json` and `model.safetensors`."""

from __future__ import annotations

import os

from walloc_cdl.codec.base import Codec
from walloc_cdl.codec.codec_files import read_codec_files
from walloc_cdl.codec.config import shortened
from walloc_cdl.codec.families.resize import ResizeCodec
from walloc_cdl.codec.families.resize_1d import ResizeCodec1D
from walloc_cdl.codec.families.walloc_1d import WallocCodec1D
from walloc_cdl.codec.families.walloc_2d import WallocCodec2D
from walloc_cdl.codec.families.walloc_residual import ResidualCodec2D
from walloc_cdl.codec.weights import config_from_bytes
from walloc_cdl.errors import DamagedError

FAMILIES: dict[str, type[Codec]] = {
    cls.config_class.type: cls for cls in (WallocCodec2D, WallocCodec1D, ResidualCodec2D, ResizeCodec, ResizeCodec1D)
}
"""Codec class by `type` in `config.json`."""


def codec_from_files(files: dict[str, bytes], *, origin: str) -> Codec:
    """Return the codec of the files that `Codec.files` returned; raise `DamagedError`, naming `origin`, if invalid."""
    family = config_from_bytes(files, origin).get("type")
    if not isinstance(family, str) or family not in FAMILIES:
        expected = ", ".join(map(repr, FAMILIES))
        raise DamagedError(f"{origin}: codec type {shortened(family)}; expected one of {expected}")
    return FAMILIES[family].from_files(files, origin=origin)


def load_codec_folder(folder: str | os.PathLike[str]) -> Codec:
    """Return the codec in a folder; raise `CallError` if there is none, `DamagedError` if it cannot be read."""
    return codec_from_files(read_codec_files(folder), origin=os.fspath(folder))
