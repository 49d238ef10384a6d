"""Latents as pictures, as the `walloc` package lays them out: a square mosaic of channels.

Here a latent is float and signed, in -2^(n_bits-1) … 2^(n_bits-1) - 1, of shape (B, N, h, w).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from walloc_cdl.errors import CallError

MODES = {1: "L", 3: "RGB", 4: "CMYK"}
"""What a picture of so many planes is called in Pillow."""


def to_bytes(x: Tensor, n_bits: int) -> Tensor:
    """Signed codes to stored ones, uint8; `CallError` (a `ValueError`) for values beyond `n_bits`."""
    limit = 2 ** (n_bits - 1)
    if x.min() < -limit or x.max() > limit - 1:
        raise CallError(f"values from {x.min():g} to {x.max():g}; {n_bits} bits hold {-limit} to {limit - 1}")
    return (x + limit).to(torch.uint8)


def from_bytes(x: Tensor, n_bits: int) -> Tensor:
    """Stored codes to signed ones, float32."""
    return x.to(torch.float32) - 2 ** (n_bits - 1)


def concatenate_channels(x: Tensor, C: int) -> Tensor:
    """Channels (B, N, h, w) as mosaics (B, n h, n w, C); `CallError` unless N = C · n²."""
    side = math.isqrt(x.shape[1] // C)
    if side < 1 or side**2 * C != x.shape[1]:
        raise CallError(f"{x.shape[1]} channels are not {C} times a square; pad them to {C * (side + 1) ** 2}")
    return rearrange(x, "b (c nh nw) h w -> b (nh h) (nw w) c", c=C, nh=side, nw=side)


def split_channels(x: Tensor, N: int, C: int) -> Tensor:
    """Mosaics (B, C, n h, n w) as channels (B, N, h, w)."""
    side = math.isqrt(N // C)
    return rearrange(x, "b c (nh h) (nw w) -> b (c nh nw) h w", c=C, nh=side, nw=side)


def latent_to_pil(latent: Tensor, n_bits: int, C: int) -> list[Image.Image]:
    """A picture for each latent of a batch: gray (C = 1), RGB (3) or CMYK (4)."""
    if C not in MODES:
        raise CallError(f"pictures of {C} planes; expected 1 (L), 3 (RGB) or 4 (CMYK)")
    mosaics = concatenate_channels(to_bytes(latent, n_bits), C).cpu().numpy()
    return [_picture(mosaic, MODES[C]) for mosaic in mosaics]


def pil_to_latent(pil_images: Sequence[Image.Image], N: int, n_bits: int, C: int) -> Tensor:
    """Inverse of `latent_to_pil`: float32 (B, N, h, w)."""
    planes = [np.array(picture).reshape(picture.height, picture.width, C) for picture in pil_images]
    mosaics = rearrange(torch.from_numpy(np.stack(planes)), "b h w c -> b c h w")
    return from_bytes(split_channels(mosaics, N, C), n_bits)


def _picture(mosaic: np.ndarray, mode: str) -> Image.Image:
    height, width = mosaic.shape[:2]
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(mosaic).tobytes())
