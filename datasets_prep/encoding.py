"""From signals to codes so that the codes depend on the signals only: fp32, no TF32, one batch shape."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from datasets_prep.signal_archives import encode_bounded, pad_to_stride
from datasets_prep.signals.base import Preparation
from datasets_prep.workers import cpu_count
from walloc_cdl.codec import Codec
from walloc_cdl.errors import CallError

if TYPE_CHECKING:
    from walloc_cdl.kernels.fused import FusedEncoder


class Encoder:
    """A codec on its device, fed with batches of one fixed shape: `signal_shape` is (C, H, W) or (C, T)."""

    def __init__(
        self, codec: Codec, device: torch.device, *, batch: int, signal_shape: tuple[int, ...], num_views: int = 1
    ) -> None:
        self.codec = copy.deepcopy(codec).to(device)  # the caller's own stays where it is
        self.device = device
        self.batch = batch
        self.latent_shape = codec.latent_shape(signal_shape)
        self.num_views = num_views

    def encode(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Codes uint8 (n, K, …) of chunks of prepared signals (m, C, …), in order; n and m need not agree.

        With views they are (n, V, K, …) of (m, V, C, …).
        """
        if self.num_views > 1:
            chunks = (chunk.reshape(-1, *chunk.shape[2:]) for chunk in chunks)
        batches = self._batches(chunks)
        return batches if self.num_views == 1 else grouped(batches, self.num_views)

    def _batches(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for signals, used in fixed_batches(chunks, self.batch):
            with torch.inference_mode(), full_precision(), few_threads():
                codes = self.codec.encode(torch.from_numpy(signals).to(self.device))
            yield codes[:used].cpu().numpy()


class RaggedEncoder:
    """A codec on its device, fed with one signal at a time, whatever its size; codes depend on nothing else."""

    num_views = 1

    def __init__(self, codec: Codec, device: torch.device) -> None:
        self.codec = copy.deepcopy(codec).to(device)
        self.device = device
        spec = codec.spec
        self.latent_shape = (spec.latent_channels, *[None] * (len(spec.axes) - 1))

    def encode(self, chunks: Iterable[list[np.ndarray]]) -> Iterator[list[np.ndarray]]:
        """Codes, uint8 (K, h, w) or (K, t) each, of chunks of signals, padded at the right and bottom to the stride."""
        for signals in chunks:
            with torch.inference_mode(), full_precision(), few_threads():
                codes = [encode_bounded(self.codec, pad_to_stride(signal, self.codec.stride)) for signal in signals]
            yield codes


class WorkersEncoder:
    """In an encoder's place where the workers encode: the chunks are codes already."""

    def __init__(self, codec: Codec, *, signal_shape: tuple[int, ...], num_views: int = 1) -> None:
        self.codec = codec
        self.latent_shape = codec.latent_shape(signal_shape)
        self.num_views = num_views

    def encode(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The chunks' codes."""
        return (chunk for chunk in chunks if len(chunk))


AnyEncoder = Encoder | RaggedEncoder | WorkersEncoder


@dataclass(frozen=True)
class Encoding:
    """Who encodes: the workers, or the process that they work for."""

    in_workers: FusedEncoder | None
    """What workers encode with."""
    encoder: AnyEncoder
    """What takes the chunks that they send."""


def open_encoding(codec: Codec, preparation: Preparation, device: torch.device, *, batch: int) -> Encoding:
    """For what a preparation makes.

    Workers encode on CPUs, each what it has just decoded, where the codec can do so without torch: one core would
    not keep up with many of them, and codes are less to send than pixels. A GPU is for one process to feed, and
    signals of any size are encoded by tiles.
    """
    if preparation.ragged:
        return Encoding(None, RaggedEncoder(codec, device))
    shape, num_views = preparation.shape, max(1, len(preparation.view_names))
    if device.type == "cpu" and (detached := codec.detached_encoder()) is not None:
        return Encoding(detached, WorkersEncoder(codec, signal_shape=shape, num_views=num_views))
    return Encoding(None, Encoder(codec, device, batch=batch, signal_shape=shape, num_views=num_views))


def grouped(batches: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Rows (m, …) in groups (n, size, …), n what each batch completes; all of them together must fill groups."""
    waiting: list[np.ndarray] = []
    for batch in batches:
        rows = np.concatenate([*waiting, batch])
        full = len(rows) - len(rows) % size
        waiting = [rows[full:]]
        if full:
            yield rows[:full].reshape(-1, size, *rows.shape[1:])


def fixed_batches(chunks: Iterable[np.ndarray], batch: int) -> Iterator[tuple[np.ndarray, int]]:
    """The chunks' rows in arrays of exactly `batch`, with the number that counts; the last is filled up with zeros."""
    waiting: list[np.ndarray] = []
    count = 0
    for chunk in chunks:
        waiting.append(chunk)
        count += len(chunk)
        while count >= batch:
            rows = np.concatenate(waiting)
            yield rows[:batch], batch
            waiting, count = [rows[batch:]], count - batch
    if count:
        rows = np.concatenate(waiting)
        yield np.concatenate([rows, np.zeros((batch - count, *rows.shape[1:]), rows.dtype)]), count


@contextmanager
def few_threads() -> Iterator[None]:
    """One torch thread for every 8 CPUs: most of the work is decoding.

    The decoding workers keep all CPUs busy, and torch's threads wait for one another at the end of
    every operation. With as many as there are CPUs, encoding is five times slower, not faster
    (measured on 2 CPUs with 2 workers: 50 images/s against 250).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, cpu_count() // 8))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def full_precision() -> Iterator[None]:
    """IEEE fp32 for convolutions and products, whatever the caller has set; no autocast."""
    backends = torch.backends
    settings = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one; `CallError` for a device that this machine does not have."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        cause = str(error).splitlines()[0]
        raise CallError(f"device {name!r} cannot be used ({cause}); choose auto, cpu or cuda") from error
    return device


def device_kind(device: torch.device) -> str:
    """What codes may depend on: the GPU's name, or the CPU's instruction set."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()}"
