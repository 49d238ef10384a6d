"""From signals to codes so that the codes depend on the signals only: fp32, no TF32, one batch shape."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from datasets_prep.encode.any_size import encode_bounded, pad_to_stride
from datasets_prep.encode.devices import alike_devices
from datasets_prep.encode.several_devices import SeveralDevices
from datasets_prep.encode.torch_settings import few_threads, full_precision
from datasets_prep.samples.preparation import Preparation
from walloc_cdl.codec import Codec

if TYPE_CHECKING:
    from walloc_cdl.kernels.cpu.fused import FusedEncoder


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
        return self.joined(map(self.encode_batch, self.batches(chunks)))

    def batches(self, chunks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, int]]:
        """What the device is given at once: signals of the fixed shape, and how many of them count."""
        if self.num_views > 1:
            chunks = (chunk.reshape(-1, *chunk.shape[2:]) for chunk in chunks)
        return fixed_batches(chunks, self.batch)

    def encode_batch(self, batch: tuple[np.ndarray, int]) -> np.ndarray:
        """Codes uint8 (used, K, …) of one of `batches`."""
        signals, used = batch
        with torch.inference_mode(), full_precision(), few_threads():
            codes = self.codec.encode(torch.from_numpy(signals).to(self.device))
        return codes[:used].cpu().numpy()

    def joined(self, codes: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The codes of all batches as `encode` gives them."""
        return codes if self.num_views == 1 else grouped(codes, self.num_views)


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
        return self.joined(map(self.encode_batch, self.batches(chunks)))

    def batches(self, chunks: Iterable[list[np.ndarray]]) -> Iterator[list[np.ndarray]]:
        """What the device is given in a row: the chunks, but for empty ones."""
        return (chunk for chunk in chunks if len(chunk))

    def encode_batch(self, batch: list[np.ndarray]) -> list[np.ndarray]:
        """Codes of each signal of a chunk."""
        with torch.inference_mode(), full_precision(), few_threads():
            return [encode_bounded(self.codec, pad_to_stride(signal, self.codec.stride)) for signal in batch]

    def joined(self, codes: Iterator[list[np.ndarray]]) -> Iterator[list[np.ndarray]]:
        """The codes of all chunks as `encode` gives them."""
        return codes


class WorkersEncoder:
    """In an encoder's place where the workers encode: the chunks are codes already."""

    def __init__(self, codec: Codec, *, signal_shape: tuple[int, ...], num_views: int = 1) -> None:
        self.codec = codec
        self.latent_shape = codec.latent_shape(signal_shape)
        self.num_views = num_views

    def encode(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The chunks' codes."""
        return (chunk for chunk in chunks if len(chunk))


AnyEncoder = Encoder | RaggedEncoder | SeveralDevices | WorkersEncoder


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
    not keep up with many of them, and codes are less to send than pixels. GPUs are for one process to feed, all of
    those that `device` stands for, and signals of any size are encoded by tiles.
    """
    shape, num_views = preparation.shape, max(1, len(preparation.view_names))
    if device.type == "cpu" and not preparation.ragged and (detached := codec.detached_encoder()) is not None:
        return Encoding(detached, WorkersEncoder(codec, signal_shape=shape, num_views=num_views))

    def on(device: torch.device) -> Encoder | RaggedEncoder:
        if preparation.ragged:
            return RaggedEncoder(codec, device)
        return Encoder(codec, device, batch=batch, signal_shape=shape, num_views=num_views)

    encoders = [on(device) for device in alike_devices(device)]
    return Encoding(None, encoders[0] if len(encoders) == 1 else SeveralDevices(encoders))


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
