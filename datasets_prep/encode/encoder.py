"""Encodes signals so that the codes depend on the signals only: fp32, no TF32, one batch shape.

Workers encode on a CPU if a codec's compiled encoder can be detached (`Codec.detached_encoder`) as arrays and numba
kernels, so that workers import neither torch nor a codec. The signals that a worker has just decoded are in its cache,
codes are a sixteenth of the pixels to send, and no single core has to keep up with all workers. The parent process
encodes everything else: batches for GPUs, which one process feeds; signals for codecs that are networks; and ragged
signals.

Ragged signals are encoded one at a time, by tiles, as single files are, so that their codes depend on the sample only.
That does not use a GPU fully. Their data sets have no linear synthesis, since classifiers need one size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from datasets_prep.encode.any_size import encode_bounded, pad_to_stride
from datasets_prep.encode.devices import same_kind_devices
from datasets_prep.encode.several_devices import SeveralDevices
from datasets_prep.encode.torch_settings import few_threads, full_precision
from datasets_prep.samples.preparation import Preparation
from walloc_cdl.codec import Codec

if TYPE_CHECKING:
    from walloc_cdl.kernels.cpu.detached import DetachedEncoder


class Encoder:
    """Encodes batches of one fixed shape on a device; `signal_shape` is (C, H, W) or (C, T)."""

    def __init__(
        self, codec: Codec, device: torch.device, *, batch: int, signal_shape: tuple[int, ...], num_views: int = 1
    ) -> None:
        self.codec = copy.deepcopy(codec).to(device)  # the caller's codec stays on its device
        self.device = device
        self.batch = batch
        self.latent_shape = codec.latent_shape(signal_shape)
        self.num_views = num_views

    def encode(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Encode chunks of prepared signals (m, C, …); yields codes uint8 (n, K, …) in order, with n independent of m.

        With views, chunks are (m, V, C, …) and codes (n, V, K, …). A codec with bit planes gives rows, (n, R) or
        (n, V, R), in place of codes.
        """
        return self.joined(map(self.encode_batch, self.batches(chunks)))

    def batches(self, chunks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, int]]:
        """Yield batches of the fixed shape with the number of signals in each; the rest of a batch is padding."""
        if self.num_views > 1:
            chunks = (chunk.reshape(-1, *chunk.shape[2:]) for chunk in chunks)
        return fixed_batches(chunks, self.batch)

    def encode_batch(self, batch: tuple[np.ndarray, int]) -> np.ndarray:
        """Encode one of `batches` to codes uint8 (count, K, …), or to rows."""
        signals, count = batch
        encode = self.codec.encode if self.codec.planes is None else self.codec.encode_rows
        with torch.inference_mode(), full_precision(), few_threads():
            codes = encode(torch.from_numpy(signals).to(self.device))
        return codes[:count].cpu().numpy()

    def joined(self, codes: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Return the codes of all batches in the form that `encode` yields."""
        return codes if self.num_views == 1 else grouped(codes, self.num_views)


class RaggedEncoder:
    """Encodes one signal of any size at a time on a device, so that codes depend on the signal only."""

    num_views = 1

    def __init__(self, codec: Codec, device: torch.device) -> None:
        self.codec = copy.deepcopy(codec).to(device)
        self.device = device
        spec = codec.spec
        self.latent_shape = (spec.latent_channels, *[None] * (len(spec.axes) - 1))

    def encode(self, chunks: Iterable[list[np.ndarray]]) -> Iterator[list[np.ndarray]]:
        """Encode chunks of signals, which are padded to the stride at the right and bottom; yields lists of codes uint8
        (K, h, w) or (K, t)."""
        return self.joined(map(self.encode_batch, self.batches(chunks)))

    def batches(self, chunks: Iterable[list[np.ndarray]]) -> Iterator[list[np.ndarray]]:
        """Yield the chunks that are not empty."""
        return (chunk for chunk in chunks if len(chunk))

    def encode_batch(self, batch: list[np.ndarray]) -> list[np.ndarray]:
        """Encode each signal of a chunk."""
        with torch.inference_mode(), full_precision(), few_threads():
            return [encode_bounded(self.codec, pad_to_stride(signal, self.codec.stride)) for signal in batch]

    def joined(self, codes: Iterator[list[np.ndarray]]) -> Iterator[list[np.ndarray]]:
        """Return the codes of all chunks in the form that `encode` yields."""
        return codes


class WorkersEncoder:
    """Takes the place of an encoder if the workers encode: the chunks already are codes, or rows."""

    def __init__(self, codec: Codec, *, signal_shape: tuple[int, ...], num_views: int = 1) -> None:
        self.codec = codec
        self.latent_shape = codec.latent_shape(signal_shape)
        self.num_views = num_views

    def encode(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the chunks that are not empty, which are codes."""
        return (chunk for chunk in chunks if len(chunk))


AnyEncoder = Encoder | RaggedEncoder | SeveralDevices | WorkersEncoder


@dataclass(frozen=True)
class Encoding:
    """The encoder of the workers, or of their parent process."""

    in_workers: DetachedEncoder | None
    """The encoder that workers use; None if the parent process encodes."""
    encoder: AnyEncoder
    """The encoder in the parent process, which gets the workers' chunks."""


def open_encoding(codec: Codec, preparation: Preparation, device: torch.device, *, batch: int) -> Encoding:
    """Open the encoders for the signals of a preparation.

    Workers encode if the device is a CPU and the codec has a detached encoder. Otherwise the parent process encodes,
    on all devices for which `device` stands.
    """
    shape, num_views = preparation.shape, max(1, len(preparation.view_names))
    if device.type == "cpu" and not preparation.ragged and (detached := codec.detached_encoder()) is not None:
        return Encoding(detached, WorkersEncoder(codec, signal_shape=shape, num_views=num_views))

    def encoder_on(device: torch.device) -> Encoder | RaggedEncoder:
        if preparation.ragged:
            return RaggedEncoder(codec, device)
        return Encoder(codec, device, batch=batch, signal_shape=shape, num_views=num_views)

    encoders = [encoder_on(device) for device in same_kind_devices(device)]
    return Encoding(None, encoders[0] if len(encoders) == 1 else SeveralDevices(encoders))


def grouped(batches: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Regroup batches of rows (m, …) to (n, size, …), where n is the number of groups that a batch completes.

    The total number of rows must be a multiple of `size`.
    """
    waiting: list[np.ndarray] = []
    for batch in batches:
        rows = np.concatenate([*waiting, batch])
        full = len(rows) - len(rows) % size
        waiting = [rows[full:]]
        if full:
            yield rows[:full].reshape(-1, size, *rows.shape[1:])


def fixed_batches(chunks: Iterable[np.ndarray], batch: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the chunks' rows in arrays of `batch` rows, with the number of rows; the last one is padded with zeros."""
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
