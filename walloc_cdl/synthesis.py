"""`LinearSynthesis`: the fixed linear layer from a small neighbourhood of latents to a block of pixels.

A data set carries one for each block size, so that a classifier can be put on a pixel grid of any
multiple of the latent grid without a decoder. How it is fitted stands in `walloc_cdl.codec.synthesis`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from walloc_cdl.errors import CallError, DamagedError

NEIGHBORHOOD = 5
"""Latents a side that one block of pixels is made from. The grid is closed to a ring, because the packet
transform is periodic: latents at one border hold detail of the opposite one."""

FILE_NAME = "synthesis.safetensors"


@dataclass(frozen=True)
class LinearSynthesis:
    """Pixels of a block of b × b from 5 × 5 latents, by one matrix.

    For inverse-companded latents z of shape (K, h, w), padded circularly by two on each side, the
    convolution `weight * z + bias` has the shape (C b², h, w), channels ordered
    (c, row, column) as `torch.nn.functional.pixel_shuffle(…, b)` expects; shuffled it is the image
    (C, h b, w b) in [-0.5, 0.5].
    """

    weight: np.ndarray
    """float32 (C b², K, 5, 5)."""
    bias: np.ndarray
    """float32 (C b²,)."""
    pixel_mean: np.ndarray
    """float32 (C,): mean of the pixels of this grid over the train split, in [-0.5, 0.5]."""
    pixel_std: np.ndarray
    """float32 (C,): their standard deviation."""

    @property
    def block(self) -> int:
        """Pixels a side for each latent, b."""
        return round((self.weight.shape[0] / self.pixel_mean.shape[0]) ** 0.5)


SynthesisBank = dict[int, LinearSynthesis]
"""A `LinearSynthesis` for every block size that a data set offers."""


def synthesis_to_bytes(bank: SynthesisBank) -> bytes:
    """Serialise a bank as one safetensors file; the same bank gives the same bytes."""
    tensors = {}
    for block, layer in sorted(bank.items()):
        for name in ("weight", "bias", "pixel_mean", "pixel_std"):
            tensors[f"{block:02d}.{name}"] = np.ascontiguousarray(getattr(layer, name), dtype=np.float32)
    return save(tensors)


def synthesis_from_bytes(data: bytes, *, origin: str) -> SynthesisBank:
    """Inverse of `synthesis_to_bytes`; raises `DamagedError`, naming `origin`, for anything else."""
    try:
        tensors = load(data)
        blocks = sorted({int(name.split(".")[0]) for name in tensors})
        return {
            block: LinearSynthesis(
                *(tensors[f"{block:02d}.{name}"] for name in ("weight", "bias", "pixel_mean", "pixel_std"))
            )
            for block in blocks
        }
    except (SafetensorError, KeyError, ValueError) as error:
        raise DamagedError(
            f"{origin}: not a linear synthesis ({error}); prepare the data set again or restore the file"
        ) from error


def choose_block(bank: SynthesisBank, block: int) -> LinearSynthesis:
    """The layer for blocks of `block` pixels a side; `CallError` naming the ones there are."""
    if block not in bank:
        raise CallError(f"no linear synthesis for blocks of {block} pixels a latent; this data set has {sorted(bank)}")
    return bank[block]
