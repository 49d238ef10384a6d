"""`cdl codec eval --bpp`: what rows that are stored raw keep of signals, for prefixes of the bit planes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from experiments.signal_distortion import PIECE_SAMPLES, decibels, mean_squared_error
from walloc_cdl.codec import Codec, to_bytes
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.planes.rows import planes_for_rate


@dataclass(frozen=True)
class StoredQuality:
    """Quality of decoded rows at one rate, the mean over the signals."""

    bits: float
    """Bits of a stored row for each pixel, or time step of audio."""
    num_planes: int
    """Bit planes of a row; 0 for codes that are stored as bytes."""
    latent_channels: int
    psnr_db: float
    """PSNR of the clamped output: of 8 bits for 8-bit images, and otherwise relative to a range of 1."""

    def to_json(self) -> dict[str, float | int]:
        """Returns plain values."""
        return asdict(self)


def at_rates(codec: Codec, rates: Sequence[float]) -> list[Codec]:
    """Returns the codec with as many planes as fit into each rate; one of byte codes as it is, without rates.

    Raises `CallError` for rates that the codec does not have.
    """
    if codec.planes is None:
        if rates:
            raise CallError(
                f"--bpp with codec {codec.name}, whose codes are stored as bytes at one rate; give --bpp all"
            )
        return [codec]
    return [codec.with_planes(planes_for_rate(codec.spec, rate)) for rate in rates]


def measure_stored(
    codecs: Sequence[Codec], signals: Iterable[torch.Tensor], *, on_signal: Callable[[], object] | None = None
) -> list[StoredQuality]:
    """Encode and decode signals, (C, H, W) or (C, T), with each of the codecs, which are forms of one codec.

    Long clips are encoded in pieces. `on_signal` is called after each signal. Raises `JobError` if there is none.
    """
    psnrs: list[list[float]] = [[] for _ in codecs]
    for signal in signals:
        for codec, values in zip(codecs, psnrs, strict=True):
            values.append(_psnr(codec, signal))
        if on_signal:
            on_signal()
    if not psnrs[0]:
        raise JobError("no sample to measure on; name a source of samples at least as large as the codec's stride")
    return [_result(codec, values) for codec, values in zip(codecs, psnrs, strict=True)]


def _psnr(codec: Codec, signal: torch.Tensor) -> float:
    if signal.dtype == torch.uint8:
        decoded = to_bytes(codec.decode(codec.encode(signal[None])))[0]
        return decibels(255.0**2, float((decoded.double() - signal.double()).square().mean()))
    piece_samples = max(PIECE_SAMPLES // codec.stride, 1) * codec.stride
    pieces = signal.split(piece_samples, dim=1) if codec.kind == "audio" else (signal,)
    errors = [mean_squared_error(codec, codec.encode(piece[None]), piece) * piece.numel() for piece in pieces]
    return decibels(1.0, sum(errors) / signal.numel())


def _result(codec: Codec, psnrs: list[float]) -> StoredQuality:
    spec = codec.spec
    bits = spec.num_planes or 8 * spec.latent_channels
    points = spec.stride ** (len(spec.axes) - 1)
    return StoredQuality(bits / points, spec.num_planes, spec.latent_channels, float(np.mean(psnrs)))
