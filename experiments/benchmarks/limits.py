"""What no encoder on this machine can be faster than: the memory's copies, and the cores' multiply-adds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from experiments.benchmarks.devices import CPU, finish
from experiments.benchmarks.timing import Run
from walloc_cdl.codec import Codec


@dataclass(frozen=True)
class LimitWork:
    """What a run of a limit does on one kind of device."""

    copy_bytes: int
    """Of one copy: more than the caches hold."""
    copies: int
    matrix_side: int
    """Large enough for the full rate."""
    products: int


WORK = {"cpu": LimitWork(64_000_000, 8, 1024, 8), "cuda": LimitWork(2**30, 8, 8192, 2)}
"""By the type of the device."""


def copying(device: torch.device = CPU) -> Run:
    """Copies within the device's memory, by all of torch's threads; counts the bytes that are read and written."""
    work = WORK[device.type]
    source = torch.ones(work.copy_bytes, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)

    def run(repeat: int) -> float:
        for _ in range(work.copies):
            target.copy_(source)
        finish(device)
        return 2.0 * work.copies * work.copy_bytes

    return run


def multiplying(device: torch.device = CPU, dtype: torch.dtype = torch.float32) -> Run:
    """Products of matrices by all of torch's threads, of float32 without TF32; counts the multiply-adds."""
    work = WORK[device.type]
    shape = (work.matrix_side, work.matrix_side)
    # Random: a GPU takes less power for numbers that are all the same, and multiplies them at a higher clock.
    left, right, out = (torch.randn(shape, device=device).to(dtype) for _ in range(3))

    def run(repeat: int) -> float:
        with _without_tf32():
            for _ in range(work.products):
                torch.matmul(left, right, out=out)
        finish(device)
        return float(work.products * work.matrix_side**3)

    return run


@contextmanager
def _without_tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


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
