"""Codecs in folders: `config.json` beside `model.safetensors`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from walloc_cdl.codec.base import Codec
from walloc_cdl.codec.resize import ResizeCodec, ResizeConfig
from walloc_cdl.codec.walloc import WallocCodec2D, WallocConfig
from walloc_cdl.errors import CallError, DamagedError

HEADER = ("format", "format_version", "type")


def codec_from_files(files: dict[str, bytes], *, origin: str) -> Codec:
    """Inverse of `Codec.files`; `origin` names the source in errors (`DamagedError`)."""
    try:
        config = json.loads(files["config.json"])
        tensors = load(files["model.safetensors"])
    except (ValueError, KeyError, SafetensorError) as error:
        raise DamagedError(f"{origin}: codec files cannot be read ({error}); restore or fit the codec again") from error
    if not isinstance(config, dict) or config.get("format") != "walloc-cdl-codec" or config.get("format_version") != 1:
        raise DamagedError(f"{origin}: config.json is not that of a codec of format version 1")
    fields = {name: value for name, value in config.items() if name not in HEADER}
    try:
        if config.get("type") == "resize":
            return ResizeCodec(ResizeConfig(**fields))
        if config.get("type") == "walloc-2d":
            return _load_weights(WallocCodec2D(WallocConfig(**fields)), tensors, origin)
    except TypeError as error:
        raise DamagedError(f"{origin}: config.json has missing or unknown fields ({error})") from error
    raise DamagedError(f"{origin}: codec type {config.get('type')!r}; expected 'walloc-2d' or 'resize'")


def _load_weights(codec: WallocCodec2D, tensors: dict[str, Tensor], origin: str) -> WallocCodec2D:
    expected: dict[str, Any] = codec.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else "nothing"
        wanted = tuple(expected[name].shape) if name in expected else "nothing"
        if found != wanted:
            raise DamagedError(f"{origin}: model.safetensors has {found} for {name}, expected {wanted}")
        if not torch.isfinite(tensors[name]).all():
            raise DamagedError(f"{origin}: {name} in model.safetensors has values that are not finite")
    codec.load_state_dict(tensors)
    return codec


def load_codec_folder(folder: str | os.PathLike[str]) -> Codec:
    """The codec in a folder; `CallError` when there is none, `DamagedError` when it cannot be read."""
    path = Path(folder)
    files = {}
    for name in ("config.json", "model.safetensors"):
        if not (path / name).is_file():
            raise CallError(f"{path} is no codec: it has no {name}; name a folder made by `cdl codec fit`")
        files[name] = (path / name).read_bytes()
    return codec_from_files(files, origin=str(path))
