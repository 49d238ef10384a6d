"""Latents as images in the layout of the `walloc` package: a square mosaic of channels.

These functions take signed float latents in -2^(n_bits-1) … 2^(n_bits-1) - 1, of shape (B, N, h, w).
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
"""Pillow's mode of an image with this number of planes."""


def to_bytes(x: Tensor, n_bits: int) -> Tensor:
    """Convert signed codes to stored uint8; raise `CallError` (a `ValueError`) for values outside of `n_bits`."""
    limit = 2 ** (n_bits - 1)
    if x.min() < -limit or x.max() > limit - 1:
        raise CallError(f"values from {x.min():g} to {x.max():g}; {n_bits} bits hold {-limit} to {limit - 1}")
    return (x + limit).to(torch.uint8)


def from_bytes(x: Tensor, n_bits: int) -> Tensor:
    """Convert stored codes to signed float32 ones."""
    return x.to(torch.float32) - 2 ** (n_bits - 1)


def concatenate_channels(x: Tensor, C: int) -> Tensor:
    """Arrange channels (B, N, h, w) as mosaics (B, n h, n w, C); raise `CallError` unless N = C · n²."""
    side = math.isqrt(x.shape[1] // C)
    if side < 1 or side**2 * C != x.shape[1]:
        raise CallError(f"{x.shape[1]} channels are not {C} times a square; pad them to {C * (side + 1) ** 2}")
    return rearrange(x, "b (c nh nw) h w -> b (nh h) (nw w) c", c=C, nh=side, nw=side)


def split_channels(x: Tensor, N: int, C: int) -> Tensor:
    """Split mosaics (B, C, n h, n w) into channels (B, N, h, w)."""
    side = math.isqrt(N // C)
    return rearrange(x, "b c (nh h) (nw w) -> b (c nh nw) h w", c=C, nh=side, nw=side)


def latent_to_pil(latent: Tensor, n_bits: int, C: int) -> list[Image.Image]:
    """Return an image for each latent of a batch: gray (C = 1), RGB (3) or CMYK (4)."""
    if C not in MODES:
        raise CallError(f"images of {C} planes; expected 1 (L), 3 (RGB) or 4 (CMYK)")
    mosaics = concatenate_channels(to_bytes(latent, n_bits), C).cpu().numpy()
    return [_to_image(mosaic, MODES[C]) for mosaic in mosaics]


def pil_to_latent(pil_images: Sequence[Image.Image], N: int, n_bits: int, C: int) -> Tensor:
    """Return the latents float32 (B, N, h, w) of images, the inverse of `latent_to_pil`."""
    planes = [np.array(image).reshape(image.height, image.width, C) for image in pil_images]
    mosaics = rearrange(torch.from_numpy(np.stack(planes)), "b h w c -> b c h w")
    return from_bytes(split_channels(mosaics, N, C), n_bits)


def _to_image(mosaic: np.ndarray, mode: str) -> Image.Image:
    height, width = mosaic.shape[:2]
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(mosaic).tobytes())
