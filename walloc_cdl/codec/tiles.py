"""Any codec on signals of any size in bounded memory: encoding and decoding tile by tile.

What is computed for a tile depends on its surroundings, so each stage is given a little more than it must
give, and the rest is cut off. How much, and what lies beyond the signal's ends, differs by stage:

- the packet transform reaches 4 (2^J - 1) samples to each side, less than four latents, and is periodic;
- the Oobleck networks reach 86 latents and find silence beyond the ends, a linear layer reaches none;
- the image networks normalize and attend over all positions: there a tile can only come near to the whole
  (`approximate`), with `OVERLAP` latents of surroundings;
- resizing filters reach a few latents and end at the border.

So tiles give the codes and the signal of the whole but for float rounding, wherever no stage is global.
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
"""Latents that the packet transform and its inverse reach to each side."""

OVERLAP = 16
"""Latents of surroundings for a network that is global."""

TILE_VALUES = 1 << 20
"""Values of the signal in a tile: RGB tiles of 512 pixels a side for a stride of 8."""

GLOBAL_TILE = 32
"""Latents a side of a tile for a network that is global; with its overlap, 4,096 positions attend to one another."""

Interval = tuple[int, int]
"""From, to, of one axis."""


@torch.no_grad()
def encode_tiled(
    codec: Codec,
    signal: Tensor | np.ndarray,
    *,
    tile: int | None = None,
    approximate: bool = False,
    on_tile: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Stored codes uint8 (K, h, w) of an image (C, H, W), or (K, t) of audio (C, T), on the CPU.

    `signal` may be a memory map; a tile at a time goes to the codec's device. `tile` is in latents a side,
    by default as many as hold `TILE_VALUES`; `on_tile` is called with the tiles done and all. Raises
    `CallError` for signals that the codec does not take, and for a codec whose encoder is global unless
    `approximate` is set.
    """
    codec.latent_shape(tuple(signal.shape))
    positions = [length // codec.stride for length in signal.shape[1:]]
    network = _network(codec, "encoder")
    _require_local(codec, network, "encode", approximate)
    codes = torch.empty(codec.latent_shape(tuple(signal.shape)), dtype=torch.uint8)
    grid = list(_grid(positions, tile or _default_tile(codec, network)))
    for number, spans in enumerate(grid, start=1):
        part, places = _encode_spans(codec, network, signal, positions, spans)
        codes[(slice(None), *(slice(*place) for place in places))] = part
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
    """The signal of stored codes (K, h, w) or (K, t), as it is stored: uint8 (C, H, W), or int16 PCM (C, T).

    Arguments as for `encode_tiled`; raises `CallError` likewise.
    """
    codec.check_codes(torch.as_tensor(codes[None]))
    positions = [length - codec.extra_frames for length in codes.shape[1:]]
    network = _network(codec, "decoder")
    _require_local(codec, network, "decode", approximate)
    shape = (codec.source_channels, *(codec.stride * length for length in positions))
    signal = torch.empty(shape, dtype=STORED_TYPE[codec.kind])
    to_stored = to_bytes if codec.kind == "image" else to_pcm
    grid = list(_grid(positions, tile or _default_tile(codec, network)))
    for number, spans in enumerate(grid, start=1):
        part = _decode_spans(codec, network, codes, positions, spans)
        places = (slice(start * codec.stride, stop * codec.stride) for start, stop in spans)
        signal[(slice(None), *places)] = to_stored(part).cpu()
        if on_tile:
            on_tile(number, len(grid))
    return signal


def is_global(codec: Codec, side: str) -> bool:
    """Whether the codec's `encoder` or `decoder` looks at the whole signal, so that tiles only come near."""
    return _network(codec, side).is_global


@dataclass(frozen=True)
class _Network:
    """What stands between the packet transform and the codes."""

    reach: int
    """Latents to each side."""
    is_global: bool
    padding: int
    """Frames that codes have before and after the signal's own."""


def _network(codec: Codec, side: str) -> _Network:
    reach: int | None = 0
    if isinstance(codec, PacketCodec):
        reach = codec.encoder_reach if side == "encoder" else codec.decoder_reach
    padding = codec.extra_frames // 2
    return _Network(OVERLAP, True, padding) if reach is None else _Network(reach, False, padding)


def _require_local(codec: Codec, network: _Network, verb: str, approximate: bool) -> None:
    if network.is_global and not approximate:
        raise CallError(
            f"codec {codec.name} looks at the whole image to {verb} it, so tiles only come near; "
            f"{verb} it whole, or allow approximate tiles"
        )


def _default_tile(codec: Codec, network: _Network) -> int:
    if network.is_global:
        return GLOBAL_TILE
    values = TILE_VALUES // codec.source_channels
    samples = values if codec.kind == "audio" else int(values**0.5)
    return max(samples // codec.stride, 2 * TRANSFORM_REACH)


def _grid(positions: list[int], tile: int) -> Iterator[tuple[Interval, ...]]:
    """Tiles of nearly equal size, none larger than `tile` along any axis."""
    if tile < 1:
        raise CallError(f"tiles of {tile} latents a side; expected at least 1")
    cuts = []
    for length in positions:
        count = -(-length // tile)
        cuts.append([(length * i // count, length * (i + 1) // count) for i in range(count)])
    return product(*cuts)


def _encode_spans(
    codec: Codec, network: _Network, signal: Tensor | np.ndarray, positions: list[int], spans: tuple[Interval, ...]
) -> tuple[Tensor, list[Interval]]:
    """Codes of the latents that belong to a tile, and where among all they lie."""
    padding = network.padding
    # The frames of padding before the first and after the last position belong to the tiles at the ends.
    places = [
        (start + padding if start else 0, stop + padding + (padding if stop == length else 0))
        for (start, stop), length in zip(spans, positions, strict=True)
    ]
    if not isinstance(codec, PacketCodec):
        windows = _clipped(spans, codec.reach, positions)
        codes = codec.encode(_samples(codec, signal, [[window] for window in windows]))
        return _cut(codes, spans, windows)[0].cpu(), places
    windows = _clipped(spans, network.reach + 2 * padding, positions)
    pieces, margins = _periodic_pieces(windows, positions)
    if network.reach or padding:  # the frames of padding are the network's, and a periodic window has none
        coefficients = codec.analyze(_samples(codec, signal, pieces))
        codes = codec.encode_coefficients(_trim(coefficients, margins))
    else:
        codes = _trim(codec.encode(_samples(codec, signal, pieces)), margins)
    return _cut(codes, places, windows)[0].cpu(), places


def _decode_spans(
    codec: Codec, network: _Network, codes: Tensor | np.ndarray, positions: list[int], spans: tuple[Interval, ...]
) -> Tensor:
    """The float signal of a tile."""
    stride, padding = codec.stride, network.padding
    device = next((tensor.device for tensor in codec.parameters()), torch.device("cpu"))

    def stored(windows: list[Interval]) -> Tensor:
        index = (slice(None), *(slice(*window) for window in windows))
        return torch.as_tensor(codes[index])[None].to(device)

    def scaled(intervals: list[Interval] | tuple[Interval, ...]) -> list[Interval]:
        return [(start * stride, stop * stride) for start, stop in intervals]

    if not isinstance(codec, PacketCodec):
        windows = _clipped(spans, codec.reach, positions)
        return _cut(codec.decode(stored(windows)), scaled(spans), scaled(windows))[0]

    def coefficients(pieces: list[Interval]) -> Tensor:
        frames = [length + 2 * padding for length in positions]
        ends = [(start, stop + 2 * padding) for start, stop in pieces]
        windows = _clipped(ends, network.reach, frames)
        # Behind a window's last frame lie 2 · padding frames of codes that no coefficient is decoded to.
        return _cut(codec.decode_coefficients(stored(windows)), pieces, windows)

    filtered = _clipped(spans, -(-codec.filter_reach // stride), positions)
    pieces, margins = _periodic_pieces(filtered, positions)
    before_clamp = codec.wavelet_synthesis(_gather(coefficients, pieces), codec.levels)
    part = codec.filter(_trim(before_clamp, [margin * stride for margin in margins]))
    return codec.clamp(_cut(part, scaled(spans), scaled(filtered)))[0]


def _clipped(spans: tuple[Interval, ...] | list[Interval], reach: int, lengths: list[int]) -> list[Interval]:
    """Each span with `reach` more on both sides, as far as there is anything."""
    return [
        (max(start - reach, 0), min(stop + reach, length)) for (start, stop), length in zip(spans, lengths, strict=True)
    ]


def _periodic_pieces(windows: list[Interval], positions: list[int]) -> tuple[list[list[Interval]], list[int]]:
    """The pieces of each periodic axis that a window and the transform's reach cover, and that reach.

    A window of everything is periodic by itself and needs nothing beside it.
    """
    all_pieces, margins = [], []
    for (start, stop), length in zip(windows, positions, strict=True):
        margin = 0 if stop - start == length else TRANSFORM_REACH
        pieces, place = [], start - margin
        while place < stop + margin:
            first = place % length
            count = min(length - first, stop + margin - place)
            pieces.append((first, first + count))
            place += count
        all_pieces.append(pieces)
        margins.append(margin)
    return all_pieces, margins


def _samples(codec: Codec, signal: Tensor | np.ndarray, pieces: list[list[Interval]]) -> Tensor:
    """The samples (1, C, …) of pieces of latents, on the codec's device."""
    device = next((tensor.device for tensor in codec.parameters()), torch.device("cpu"))

    def read(pieces: list[Interval]) -> Tensor:
        index = (slice(start * codec.stride, stop * codec.stride) for start, stop in pieces)
        part = signal[(slice(None), *index)]
        # Arrays are copied, because a memory map is read-only.
        return (part if isinstance(part, Tensor) else torch.from_numpy(np.array(part)))[None]

    return _gather(read, pieces).to(device)


def _gather(read: Callable[[list[Interval]], Tensor], pieces: list[list[Interval]]) -> Tensor:
    """All combinations of the axes' pieces, put together."""

    def join(chosen: list[Interval]) -> Tensor:
        axis = len(chosen)
        if axis == len(pieces):
            return read(chosen)
        return torch.cat([join([*chosen, piece]) for piece in pieces[axis]], dim=2 + axis)

    return join([])


def _trim(x: Tensor, margins: list[int]) -> Tensor:
    """Without so many positions at both ends of each axis."""
    for axis, margin in enumerate(margins, start=2):
        x = x.narrow(axis, margin, x.shape[axis] - 2 * margin)
    return x


def _cut(x: Tensor, wanted: tuple[Interval, ...] | list[Interval], windows: list[Interval]) -> Tensor:
    """The wanted intervals of something that begins where the windows do."""
    for axis, ((start, stop), (first, _)) in enumerate(zip(wanted, windows, strict=True), start=2):
        x = x.narrow(axis, start - first, stop - start)
    return x
