"""Encoding and decoding of signals of any size in bounded memory, tile by tile, with any codec.

The result for a tile depends on its surroundings, so each stage receives more than the tile, and its output is cropped.
The required surroundings, and the values beyond the ends of the signal, differ by stage:

- the packet transform reaches 4 (2^J - 1) samples to each side, less than four latents, and is periodic;
- the Oobleck networks reach 86 latents and see zeros beyond the ends; a linear layer reaches none;
- the image networks normalize and attend over all positions, so that tiles, with `OVERLAP` latents of surroundings,
  only approximate the result of the whole image (`approximate`);
- resampling filters reach a few latents and are cut at the border.

Where no stage is global, tiles give the same codes and signal as the whole, except for float rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from walloc_cdl.codec.base import STORED_TYPE, Codec, to_bytes, to_pcm
from walloc_cdl.codec.packet_codec import PacketCodec
from walloc_cdl.errors import CallError

TRANSFORM_REACH = 4
"""Latents to each side in the receptive field of the packet transform and of its inverse."""

OVERLAP = 16
"""Latents of surroundings for a global network."""

TILE_VALUES = 1 << 20
"""Signal values in a tile; RGB tiles have up to 584 pixels a side at stride 8."""

GLOBAL_TILE = 32
"""Side of a tile in latents for a global network; with its overlap, attention covers 4,096 positions."""

Interval = tuple[int, int]
"""Start and stop on one axis."""


@torch.no_grad()
def encode_tiled(
    codec: Codec,
    signal: Tensor | np.ndarray,
    *,
    tile: int | None = None,
    approximate: bool = False,
    on_tile: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return the stored codes uint8 (K, h, w) of an image (C, H, W), or (K, t) of audio (C, T), on the CPU.

    `signal` may be a memory map; one tile at a time is moved to the codec's device. `tile` is the side of a tile in
    latents; by default a tile has about `TILE_VALUES` values. `on_tile` is called with the number of finished tiles and
    the total. Raises `CallError` for signals that the codec cannot encode, and for a codec with a global encoder unless
    `approximate` is set.
    """
    codec.latent_shape(tuple(signal.shape))
    positions = [length // codec.stride for length in signal.shape[1:]]
    field = _receptive_field(codec, "encoder")
    _require_local(codec, field, "encode", approximate)
    codes = torch.empty(codec.latent_shape(tuple(signal.shape)), dtype=torch.uint8)
    grid = list(_grid(positions, tile or _default_tile(codec, field)))
    for number, spans in enumerate(grid, start=1):
        part, targets = _encode_spans(codec, field, signal, positions, spans)
        codes[(slice(None), *(slice(*target) for target in targets))] = part
        if on_tile:
            on_tile(number, len(grid))
    return codes


@torch.no_grad()
def decode_tiled(
    codec: Codec,
    codes: Tensor | np.ndarray,
    *,
    tile: int | None = None,
    approximate: bool = False,
    on_tile: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return the signal, uint8 (C, H, W) or int16 PCM (C, T), of stored codes (K, h, w) or (K, t), on the CPU.

    Arguments and errors are those of `encode_tiled`.
    """
    codec.check_codes(torch.as_tensor(codes[None]))
    positions = [length - codec.extra_frames for length in codes.shape[1:]]
    field = _receptive_field(codec, "decoder")
    _require_local(codec, field, "decode", approximate)
    shape = (codec.source_channels, *(codec.stride * length for length in positions))
    signal = torch.empty(shape, dtype=STORED_TYPE[codec.kind])
    to_stored = to_bytes if codec.kind == "image" else to_pcm
    grid = list(_grid(positions, tile or _default_tile(codec, field)))
    for number, spans in enumerate(grid, start=1):
        part = _decode_spans(codec, field, codes, positions, spans)
        target = (slice(start * codec.stride, stop * codec.stride) for start, stop in spans)
        signal[(slice(None), *target)] = to_stored(part).cpu()
        if on_tile:
            on_tile(number, len(grid))
    return signal


def is_global(codec: Codec, side: str) -> bool:
    """Return whether the `encoder` or `decoder` of a codec sees the whole signal, so that tiles are approximate."""
    return _receptive_field(codec, side).is_global


@dataclass(frozen=True)
class _ReceptiveField:
    """Receptive field of the stage between the packet transform and the codes."""

    reach: int
    """Latents to each side."""
    is_global: bool
    padding: int
    """Frames that codes have before and after the frames of the signal."""


def _receptive_field(codec: Codec, side: str) -> _ReceptiveField:
    reach: int | None = 0
    if isinstance(codec, PacketCodec):
        reach = codec.encoder_reach if side == "encoder" else codec.decoder_reach
    padding = codec.extra_frames // 2
    return _ReceptiveField(OVERLAP, True, padding) if reach is None else _ReceptiveField(reach, False, padding)


def _require_local(codec: Codec, field: _ReceptiveField, verb: str, approximate: bool) -> None:
    if field.is_global and not approximate:
        raise CallError(
            f"codec {codec.name} needs the whole image to {verb} it, so tiles only approximate the result; "
            f"{verb} the whole image, or allow approximate tiles"
        )


def _default_tile(codec: Codec, field: _ReceptiveField) -> int:
    if field.is_global:
        return GLOBAL_TILE
    values = TILE_VALUES // codec.source_channels
    samples = values if codec.kind == "audio" else int(values**0.5)
    return max(samples // codec.stride, 2 * TRANSFORM_REACH)


def _grid(positions: list[int], tile: int) -> Iterator[tuple[Interval, ...]]:
    """Return tiles of nearly equal size, none larger than `tile` along any axis."""
    if tile < 1:
        raise CallError(f"tiles of {tile} latents a side; expected at least 1")
    cuts = []
    for length in positions:
        count = -(-length // tile)
        cuts.append([(length * i // count, length * (i + 1) // count) for i in range(count)])
    return product(*cuts)


def _encode_spans(
    codec: Codec, field: _ReceptiveField, signal: Tensor | np.ndarray, positions: list[int], spans: tuple[Interval, ...]
) -> tuple[Tensor, list[Interval]]:
    """Return the codes of a tile and their intervals among all codes."""
    padding = field.padding
    # The frames of padding before the first and after the last position belong to the tiles at the ends.
    targets = [
        (start + padding if start else 0, stop + padding + (padding if stop == length else 0))
        for (start, stop), length in zip(spans, positions, strict=True)
    ]
    if not isinstance(codec, PacketCodec):
        windows = _clipped(spans, codec.reach, positions)
        codes = codec.encode(_samples(codec, signal, [[window] for window in windows]))
        return _crop(codes, spans, windows)[0].cpu(), targets
    windows = _clipped(spans, field.reach + 2 * padding, positions)
    pieces, margins = _periodic_pieces(windows, positions)
    if field.reach or padding:  # the network adds the frames of padding, which a periodic window lacks
        samples = _samples(codec, signal, pieces)
        codec.check_range(samples)
        coefficients = codec.analyze(samples)
        codes = codec.encode_coefficients(_trim(coefficients, margins))
    else:
        codes = _trim(codec.encode(_samples(codec, signal, pieces)), margins)
    return _crop(codes, targets, windows)[0].cpu(), targets


def _decode_spans(
    codec: Codec, field: _ReceptiveField, codes: Tensor | np.ndarray, positions: list[int], spans: tuple[Interval, ...]
) -> Tensor:
    """Return the float signal of a tile."""
    stride, padding = codec.stride, field.padding
    device = next((tensor.device for tensor in codec.parameters()), torch.device("cpu"))

    def stored(windows: list[Interval]) -> Tensor:
        index = (slice(None), *(slice(*window) for window in windows))
        return torch.as_tensor(codes[index])[None].to(device)

    def scaled(intervals: list[Interval] | tuple[Interval, ...]) -> list[Interval]:
        return [(start * stride, stop * stride) for start, stop in intervals]

    if not isinstance(codec, PacketCodec):
        windows = _clipped(spans, codec.reach, positions)
        return _crop(codec.decode(stored(windows)), scaled(spans), scaled(windows))[0]

    def coefficients(pieces: list[Interval]) -> Tensor:
        frames = [length + 2 * padding for length in positions]
        padded = [(start, stop + 2 * padding) for start, stop in pieces]
        windows = _clipped(padded, field.reach, frames)
        # The last 2 · padding frames of a window decode to no coefficient.
        return _crop(codec.decode_coefficients(stored(windows)), pieces, windows)

    filtered = _clipped(spans, -(-codec.filter_reach // stride), positions)
    pieces, margins = _periodic_pieces(filtered, positions)
    before_clamp = codec.wavelet_synthesis(_gather(coefficients, pieces), codec.levels)
    part = codec.filter(_trim(before_clamp, [margin * stride for margin in margins]))
    return codec.clamp(_crop(part, scaled(spans), scaled(filtered)))[0]


def _clipped(spans: tuple[Interval, ...] | list[Interval], reach: int, lengths: list[int]) -> list[Interval]:
    """Return each span extended by `reach` on both sides, clipped to the axis."""
    return [
        (max(start - reach, 0), min(stop + reach, length)) for (start, stop), length in zip(spans, lengths, strict=True)
    ]


def _periodic_pieces(windows: list[Interval], positions: list[int]) -> tuple[list[list[Interval]], list[int]]:
    """Return the pieces of each periodic axis that cover a window and its margins, and the margins.

    A window of the whole axis is periodic and needs no margin.
    """
    all_pieces, margins = [], []
    for (start, stop), length in zip(windows, positions, strict=True):
        margin = 0 if stop - start == length else TRANSFORM_REACH
        pieces, position = [], start - margin
        while position < stop + margin:
            first = position % length
            count = min(length - first, stop + margin - position)
            pieces.append((first, first + count))
            position += count
        all_pieces.append(pieces)
        margins.append(margin)
    return all_pieces, margins


def _samples(codec: Codec, signal: Tensor | np.ndarray, pieces: list[list[Interval]]) -> Tensor:
    """Return the samples (1, C, …) of pieces of the latent grid, on the codec's device."""
    device = next((tensor.device for tensor in codec.parameters()), torch.device("cpu"))

    def read(pieces: list[Interval]) -> Tensor:
        index = (slice(start * codec.stride, stop * codec.stride) for start, stop in pieces)
        part = signal[(slice(None), *index)]
        # Arrays are copied, because a memory map is read-only.
        return (part if isinstance(part, Tensor) else torch.from_numpy(np.array(part)))[None]

    return _gather(read, pieces).to(device)


def _gather(read: Callable[[list[Interval]], Tensor], pieces: list[list[Interval]]) -> Tensor:
    """Read all combinations of the axes' pieces and concatenate them."""

    def join(prefix: list[Interval]) -> Tensor:
        axis = len(prefix)
        if axis == len(pieces):
            return read(prefix)
        return torch.cat([join([*prefix, piece]) for piece in pieces[axis]], dim=2 + axis)

    return join([])


def _trim(x: Tensor, margins: list[int]) -> Tensor:
    """Remove the margins at both ends of each axis."""
    for axis, margin in enumerate(margins, start=2):
        x = x.narrow(axis, margin, x.shape[axis] - 2 * margin)
    return x


def _crop(x: Tensor, spans: tuple[Interval, ...] | list[Interval], windows: list[Interval]) -> Tensor:
    """Return the part of x at `spans`; x begins at the start of each window."""
    for axis, ((start, stop), (first, _)) in enumerate(zip(spans, windows, strict=True), start=2):
        x = x.narrow(axis, start - first, stop - start)
    return x
