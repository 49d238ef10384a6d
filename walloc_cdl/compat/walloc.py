"""Drop-in open_atomic of the module `walloc.walloc` of the PyPI package: the same names, arguments and results.

    from walloc_cdl.compat import walloc
    from walloc_cdl.compat.walloc import latent_to_pil, pil_to_latent

Weights come from `walloc_cdl.load_codec("RGB_16x.pth").state_dict()`, which executes no code of the file, or from
`torch.load(…, weights_only=True)`.
"""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

from torch import Tensor
from torch.nn import functional

from walloc_cdl.codec.bottleneck import Compand, Expand, Round
from walloc_cdl.compat.codecs import Codec1D, Codec2D, LinearCodec2D, ResidualCodec2D
from walloc_cdl.compat.mosaic import (
    concatenate_channels,
    from_bytes,
    latent_to_pil,
    pil_to_latent,
    split_channels,
    to_bytes,
)
from walloc_cdl.errors import CallError

__all__ = [
    "Codec1D",
    "Codec2D",
    "LinearCodec2D",
    "ResidualCodec2D",
    "Round",
    "ToNormal",
    "ToUniform",
    "compute_padding",
    "concatenate_channels",
    "crop",
    "from_bytes",
    "latent_to_pil",
    "load_config",
    "pad",
    "pil_to_latent",
    "save_config",
    "split_channels",
    "to_bytes",
]


class ToUniform(Compand):
    """Companding to ±latent_max by the normal distribution function."""

    def __init__(self, scale: float, latent_max: float) -> None:
        super().__init__(scale, latent_max)
        self.latent_max = latent_max


class ToNormal(Expand):
    """The inverse of `ToUniform`."""

    def __init__(self, scale: float, latent_max: float) -> None:
        super().__init__(scale, latent_max)
        self.latent_max = latent_max


def load_config(path: str | os.PathLike[str]) -> SimpleNamespace:
    """Return the fields of a JSON file as attributes."""
    with open(path, encoding="utf-8") as file:
        return SimpleNamespace(**json.load(file))


def save_config(config: SimpleNamespace, path: str | os.PathLike[str]) -> None:
    """Write attributes as the fields of a JSON file that `load_config` reads."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(vars(config), file, indent=4)


def compute_padding(
    in_h: int, in_w: int, *, out_h: int | None = None, out_w: int | None = None, min_div: int = 1
) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """Return (left, right, top, bottom) that pad in_h × in_w to out_h × out_w centered, and its negative, which crops.

    The output size defaults to the next multiples of `min_div`. Raises `CallError` for sizes that are not multiples.
    """
    out_h = -(-in_h // min_div) * min_div if out_h is None else out_h
    out_w = -(-in_w // min_div) * min_div if out_w is None else out_w
    if out_h % min_div or out_w % min_div:
        raise CallError(f"padded to {out_h}x{out_w}, which {min_div} does not divide; give multiples or omit them")
    left, top = (out_w - in_w) // 2, (out_h - in_h) // 2
    right, bottom = out_w - in_w - left, out_h - in_h - top
    return (left, right, top, bottom), (-left, -right, -top, -bottom)


def pad(x: Tensor, p: int = 16, mode: str = "reflect") -> Tensor:
    """Pad images (B, C, H, W) on all sides to multiples of p."""
    padding, _ = compute_padding(x.shape[2], x.shape[3], min_div=p)
    return functional.pad(x, padding, mode=mode)


def crop(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the center of images, of size (height, width): the inverse of `pad`."""
    _, cropping = compute_padding(*size, out_h=x.shape[2], out_w=x.shape[3])
    return functional.pad(x, cropping)
