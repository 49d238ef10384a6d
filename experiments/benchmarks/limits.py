"""What no encoder on this machine can be faster than: the memory's copies, and the cores' multiply-adds."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from experiments.benchmarks.timing import Run
from walloc_cdl.codec import Codec

COPY_BYTES = 64_000_000
"""Of one copy: more than the caches hold."""
COPIES = 8
MATRIX_SIDE = 1024
PRODUCTS = 8


def copying() -> Run:
    """Copies by all of torch's threads; counts the bytes that are read and written."""
    source, target = torch.ones(COPY_BYTES, dtype=torch.uint8), torch.zeros(COPY_BYTES, dtype=torch.uint8)

    def run(repeat: int) -> float:
        for _ in range(COPIES):
            target.copy_(source)
        return 2.0 * COPIES * COPY_BYTES

    return run


def multiplying() -> Run:
    """Products of float32 matrices by all of torch's threads; counts the multiply-adds."""
    left, right, out = (torch.ones(MATRIX_SIDE, MATRIX_SIDE) for _ in range(3))

    def run(repeat: int) -> float:
        for _ in range(PRODUCTS):
            torch.matmul(left, right, out=out)
        return float(PRODUCTS * MATRIX_SIDE**3)

    return run


@dataclass(frozen=True)
class EncodeCost:
    """What encoding takes at the least, for each pixel of an image or each frame of sound, all channels of it."""

    bytes: float
    """Read once and written once."""
    operations: float
    """Float32 instructions of one value: additions, multiplications, or a multiplication with an addition."""

    @classmethod
    def of(cls, codec: Codec) -> EncodeCost:
        """Of a WaLLoC codec with a linear encoder, by lifting.

        A level along one axis takes four steps on half the samples, each an addition and a multiply-add: 4 a
        sample. The mix takes C · K multiply-adds a pixel: K rows over C · stride^d bands for stride^d pixels.
        """
        channels, latents, stride = codec.source_channels, codec.latent_channels, codec.stride
        dimensions = 2 if codec.kind == "image" else 1
        levels = stride.bit_length() - 1
        lifting = 4.0 * channels * levels * dimensions
        sample_bytes = 1 if codec.kind == "image" else 2
        return cls(channels * sample_bytes + latents / stride**dimensions, lifting + channels * latents)
