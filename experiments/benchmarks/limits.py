"""Upper bounds for the speed of encoders on this machine: memory copies and multiply-adds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from experiments.benchmarks.devices import CPU, synchronize
from experiments.benchmarks.timing import Run
from walloc_cdl.codec import Codec


@dataclass(frozen=True)
class LimitWork:
    """The work of one run of a limit on one type of device."""

    copy_bytes: int
    """Bytes of one copy, more than the caches hold."""
    copies: int
    matrix_side: int
    """Side of the matrices, large enough for the full rate."""
    products: int


WORK = {"cpu": LimitWork(64_000_000, 8, 1024, 8), "cuda": LimitWork(2**30, 8, 8192, 2)}
"""The work by the type of the device."""


def make_copy_run(device: torch.device = CPU) -> Run:
    """Returns a run of copies in the device's memory, by all of torch's threads, that counts bytes read and written."""
    work = WORK[device.type]
    source = torch.ones(work.copy_bytes, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)

    def run(repeat: int) -> float:
        for _ in range(work.copies):
            target.copy_(source)
        synchronize(device)
        return 2.0 * work.copies * work.copy_bytes

    return run


def make_matmul_run(device: torch.device = CPU, dtype: torch.dtype = torch.float32) -> Run:
    """Returns a run of matrix products by all of torch's threads, without TF32, that counts multiply-adds."""
    work = WORK[device.type]
    shape = (work.matrix_side, work.matrix_side)
    # The values are random: for equal values a GPU uses less power, and runs at a higher clock.
    left, right, out = (torch.randn(shape, device=device).to(dtype) for _ in range(3))

    def run(repeat: int) -> float:
        with _without_tf32():
            for _ in range(work.products):
                torch.matmul(left, right, out=out)
        synchronize(device)
        return float(work.products * work.matrix_side**3)

    return run


@contextmanager
def _without_tf32() -> Iterator[None]:
    previous = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = previous


@dataclass(frozen=True)
class EncodeCost:
    """The least cost of encoding, for a pixel of an image or a frame of audio with all its channels."""

    bytes: float
    """Bytes that are read once or written once."""
    operations: float
    """Scalar float32 instructions: additions, multiplications, or multiply-adds."""

    @classmethod
    def of(cls, codec: Codec) -> EncodeCost:
        """Compute the cost of a WaLLoC codec with a linear encoder, by lifting.

        A level along one axis takes four steps on half the samples, each an addition and a multiply-add: 4 per
        sample. The mix takes C · K multiply-adds per pixel: K rows over C · stride^d bands for stride^d pixels.
        """
        channels, latents, stride = codec.source_channels, codec.latent_channels, codec.stride
        dimensions = 2 if codec.kind == "image" else 1
        levels = stride.bit_length() - 1
        lifting = 4.0 * channels * levels * dimensions
        sample_bytes = 1 if codec.kind == "image" else 2
        stored_bytes = latents if codec.planes is None else len(codec.planes) / 8
        return cls(channels * sample_bytes + stored_bytes / stride**dimensions, lifting + channels * latents)
