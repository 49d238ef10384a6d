"""Budgets of stored samples in bytes or bits a pixel, and the shipped codec that a source gets if none is named."""

from __future__ import annotations

import math
from dataclasses import dataclass

from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources.core.source import Source
from walloc_cdl.codec import Codec, load_codec, zoo_names
from walloc_cdl.errors import CallError
from walloc_cdl.planes.rows import plane_bytes, planes_for_bytes, planes_for_rate

SHIPPED = {("image", 3): "rgb", ("image", 1): "gray", ("audio", 1): "mono", ("audio", 2): "stereo"}
"""The shipped codecs with bit planes by kind of signal and number of channels."""


@dataclass(frozen=True)
class Budget:
    """What a stored sample may take, in bytes of each view or in bits a pixel or time step; None for no budget."""

    num_bytes: int | None = None
    bpp: float | None = None

    def rate(self, kind: str, preparation: Preparation) -> float | None:
        """Return the budget in bits a pixel, or a time step of audio, for a codec of `kind`; None without a budget.

        Raises `CallError` for a budget in bytes where samples differ in size, and of sound.
        """
        if self.num_bytes is None:
            return self.bpp
        if preparation.ragged or kind == "audio":
            where = "sound" if kind == "audio" else "geometry ragged, where samples differ in size"
            raise CallError(
                f"bytes is {self.num_bytes:,} with {where}; give the budget in bits a {_point(kind)} instead, as bpp"
            )
        return 8 * self.num_bytes / math.prod(preparation.shape[1:])

    def fit(self, codec: Codec, preparation: Preparation) -> tuple[Codec, list[str]]:
        """Return the codec with the bit planes that fit into the budget, and messages for users.

        Without a budget it is the codec itself. Raises `CallError` for a codec without bit planes, for less than a
        plane and for more than all, and as `rate` does.
        """
        spec = codec.spec
        rate = self.rate(spec.kind, preparation)
        if rate is None:
            return codec, []
        if self.num_bytes is not None:
            grid = codec.latent_shape(preparation.shape)[1:]
            count = planes_for_bytes(spec, grid, self.num_bytes)
            used = count * plane_bytes(grid)
            rounded = (f"{self.num_bytes:,} bytes", f"{used:,} bytes") if used != self.num_bytes else None
        else:
            count = planes_for_rate(spec, rate)
            used_rate = count / spec.stride ** (len(spec.axes) - 1)
            rounded = (f"{rate:g} bits a {_point(spec.kind)}", f"{used_rate:g}") if rate - used_rate > 1e-6 else None
        notes = [f"{rounded[0]} are rounded down to {count} whole bit planes, {rounded[1]}"] if rounded else []
        return codec.with_planes(count), notes


def _point(kind: str) -> str:
    return "pixel" if kind == "image" else "time step"


def shipped_codec(source: Source) -> Codec:
    """Return the shipped codec with bit planes for the kind of signal and the channels of a source.

    Raises `CallError` if there is none.
    """
    kind = "audio" if source.kind == "audio" else "image"
    if source.channels is None:
        raise CallError(f"no sample of {source.name} can be read, so its channels are unknown; check the source")
    name = SHIPPED.get((kind, source.channels))
    if name is None or name not in zoo_names():
        shipped = ", ".join(name for name in SHIPPED.values() if name in zoo_names())
        raise CallError(
            f"no shipped codec with bit planes takes {kind} of {source.channels} channels, as {source.name} has (there "
            f"are {shipped}); fit one with --codec own"
        )
    return load_codec(name)
