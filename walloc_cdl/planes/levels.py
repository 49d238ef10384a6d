"""`LevelTables`: thresholds and levels of each channel's embedded quantizer, and the file that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.spec import MAX_CHANNEL_BITS, LatentSpec

FILE_NAME = "levels.safetensors"

FILE_PATH = f"codec/{FILE_NAME}"
"""Where a data set of latents with bit planes holds its levels, so that reading it needs no codec."""

MAX_FILE_BYTES = 2**24
"""More than 4,096 channels of 8 bits take (3 · 2^8 numbers of 4 bytes each) with the header."""


@dataclass(frozen=True, eq=False)
class LevelTables:
    """The quantizer of each channel: a latent z gets the number of thresholds that are not above it as its code.

    Channel c has b_c bits, 2^b_c - 1 thresholds, and for each prefix of p bits, 0 ≤ p ≤ b_c, the values of 2^p codes,
    all in ascending order. Quantized with p bits, z has the upper p bits of its code. Values are in the units of the
    encoder's linear layer, whose output is z.
    """

    bits: tuple[int, ...]
    """b_c, of each channel, 1 to 8."""
    thresholds: np.ndarray
    """float32: those of channel 0, of channel 1, …"""
    values: np.ndarray
    """float32: for each channel the value of no bits, then those of 1 bit, of 2 bits, … of b_c bits."""

    @classmethod
    def of_channels(cls, tables: list[tuple[np.ndarray, list[np.ndarray]]]) -> LevelTables:
        """Return the tables of channels, given the thresholds and, for each prefix of 0, 1, … bits, the values."""
        return cls(
            tuple(len(values) - 1 for _, values in tables),
            np.concatenate([thresholds for thresholds, _ in tables]).astype(np.float32),
            np.concatenate([part for _, values in tables for part in values]).astype(np.float32),
        )

    @classmethod
    def zeros(cls, bits: tuple[int, ...]) -> LevelTables:
        """Return tables of zeros, for a structure whose values are loaded later."""
        thresholds, values = (sum(2 ** (count + more) - 1 for count in bits) for more in (0, 1))
        return cls(bits, np.zeros(thresholds, np.float32), np.zeros(values, np.float32))

    @cached_property
    def _starts(self) -> tuple[list[int], list[int]]:
        """Where the thresholds and the values of each channel begin."""
        thresholds = accumulate((2**bits - 1 for bits in self.bits), initial=0)
        values = accumulate((2 ** (bits + 1) - 1 for bits in self.bits), initial=0)
        return list(thresholds), list(values)

    def channel_thresholds(self, channel: int, num_bits: int) -> np.ndarray:
        """Return the thresholds of codes of `num_bits`, float32 (2^p - 1,)."""
        begin = self._starts[0][channel]
        step = 2 ** (self.bits[channel] - num_bits)
        return self.thresholds[begin : begin + 2 ** self.bits[channel] - 1][step - 1 :: step]

    def channel_values(self, channel: int, num_bits: int) -> np.ndarray:
        """Return the values of codes of `num_bits`, float32 (2^p,)."""
        begin = self._starts[1][channel] + 2**num_bits - 1
        return self.values[begin : begin + 2**num_bits]

    def thresholds_table(self, channel_bits: tuple[int, ...]) -> np.ndarray:
        """Return the thresholds of codes of `channel_bits`, float32 (K, 2^max - 1), NaN where there are fewer."""
        table = np.full((len(channel_bits), 2 ** max(channel_bits) - 1), np.nan, np.float32)
        for channel, bits in enumerate(channel_bits):
            table[channel, : 2**bits - 1] = self.channel_thresholds(channel, bits)
        return table

    def values_table(self, channel_bits: tuple[int, ...]) -> np.ndarray:
        """Return the values of all bytes as codes of `channel_bits`, float64 (K, 256).

        Bytes above the largest code have its value.
        """
        table = np.empty((len(channel_bits), 256))
        for channel, bits in enumerate(channel_bits):
            table[channel, : 2**bits] = self.channel_values(channel, bits)
            table[channel, 2**bits :] = table[channel, 2**bits - 1]
        return table

    def means(self) -> np.ndarray:
        """Return the value of each channel without any bit, float64 (K,): the mean of its latents in the fit."""
        return np.array([self.channel_values(channel, 0)[0] for channel in range(len(self.bits))], np.float64)

    def problem(self) -> str | None:
        """Describe what is wrong with tables from an untrusted file, whose shapes are right; None if nothing is."""
        if not (np.isfinite(self.thresholds).all() and np.isfinite(self.values).all()):
            return "numbers that are not finite"
        for channel, bits in enumerate(self.bits):
            tables = [self.channel_values(channel, count) for count in range(bits + 1)]
            if any((np.diff(table) < 0).any() for table in [*tables, self.channel_thresholds(channel, bits)]):
                return f"levels of channel {channel} that are not in ascending order"
        return None

    def require_fit(self, spec: LatentSpec, *, origin: str) -> None:
        """Raise `DamagedError`, naming `origin`, unless these are tables for all channels and bits of `spec`."""
        wanted = spec.channel_bits
        if len(wanted) > len(self.bits) or any(count > own for count, own in zip(wanted, self.bits, strict=False)):
            raise DamagedError(
                f"{origin}: levels for {len(self.bits)} channels of up to {max(self.bits)} bits, which are fewer than "
                f"those of the latents, {len(wanted)} of up to {max(wanted)}; restore the file from a copy"
            )

    def to_bytes(self) -> bytes:
        """Serialize the tables as one safetensors file; the same tables give the same bytes."""
        return save({"bits": np.array(self.bits, np.uint8), "thresholds": self.thresholds, "values": self.values})


def heap_of_thresholds(thresholds: np.ndarray, bits: int) -> np.ndarray:
    """Return 2^b - 1 sorted thresholds in the order of a binary search, float32 (2^b,), the first one unused.

    Threshold 2^s + c decides bit s, counted from the most significant, of latents whose bits before it are c.

    >>> heap_of_thresholds(np.array([1, 2, 3]), 2)
    array([0., 2., 1., 3.], dtype=float32)
    """
    heap = np.zeros(2**bits, np.float32)
    for step in range(bits):
        distance = 2 ** (bits - step)
        heap[2**step : 2 ** (step + 1)] = thresholds[distance // 2 - 1 :: distance]
    return heap


def levels_from_bytes(data: bytes, *, origin: str) -> LevelTables:
    """Return the tables of an untrusted file that `LevelTables.to_bytes` wrote.

    Raises `DamagedError`, naming `origin`, unless they have the right sizes, are finite and sorted.
    """
    try:
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"{len(data):,} bytes, at most {MAX_FILE_BYTES:,}")
        tensors = load(data)
        names = {"bits", "thresholds", "values"}
        if differing := sorted(tensors.keys() ^ names):
            raise ValueError(f"{differing[0][:60]!r} is {'missing' if differing[0] in names else 'unknown'}")
        counts = tensors["bits"]
        if counts.dtype != np.uint8 or counts.ndim != 1 or not counts.size:
            raise ValueError(f"bits is {counts.dtype} {list(counts.shape)}, expected uint8 of one for each channel")
        if not 1 <= counts.min() <= counts.max() <= MAX_CHANNEL_BITS:
            raise ValueError(f"channels of {counts.min()} to {counts.max()} bits, expected 1 to {MAX_CHANNEL_BITS}")
        bits = tuple(counts.tolist())
        sizes = {
            "thresholds": sum(2**count - 1 for count in bits),
            "values": sum(2 ** (count + 1) - 1 for count in bits),
        }
        for name, size in sizes.items():
            if tensors[name].dtype != np.float32 or tensors[name].shape != (size,):
                raise ValueError(
                    f"{name} is {tensors[name].dtype} {list(tensors[name].shape)}, expected float32 [{size}]"
                )
        tables = LevelTables(bits, tensors["thresholds"], tensors["values"])
        if problem := tables.problem():
            raise ValueError(problem)
    except (SafetensorError, ValueError) as error:
        raise DamagedError(
            f"{origin}: not the levels of these latents ({error}); restore the file from a copy, or fit the codec again"
        ) from error
    return tables


def channel_values(spec: LatentSpec, levels: LevelTables | None) -> np.ndarray:
    """Return the value of each byte as a stored code of each channel, float64 (K, 256); NaN where it cannot occur.

    `levels` are those of the codec, and None for codes that are stored as bytes. Raises `CallError` if they are not.
    """
    if (levels is None) != (spec.planes is None):
        raise CallError("latents with bit planes need the levels of their codec, and only they do")
    if levels is None:
        return spec.byte_values()[None].repeat(spec.latent_channels, 0)
    return levels.values_table(spec.channel_bits)
