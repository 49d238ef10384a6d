"""`LatentSpec`, which describes a stored latent, and the companding tables that follow from it.

Companding maps an unbounded latent to a uniform scale of `bits` bits. WaLLoC
(Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", arXiv:2412.09405) uses the
normal distribution function Φ:

    companded = 2 m (Φ(z / s) - 1/2),   m = 2^(bits-1) - 1 + 0.499,   s = (2^(bits-1) - 1) / 1.85

Rounding the companded value gives the code, an integer in ±(2^(bits-1) - 1). A code is stored as the
byte code + 2^(bits-1), so that byte 0 never occurs.

Codecs with bit planes have the companding `levels` instead: each channel has a table of 2^b sorted levels, and a
code is the number of a level, 0 … 2^b - 1. `walloc_cdl.planes` has their tables and how their codes are stored.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from walloc_cdl.errors import CallError, SpecMismatchError
from walloc_cdl.schema import MAY_BE_OMITTED

KINDS = ("image", "audio")
COMPANDINGS = ("none", "normal", "levels")

MAX_CHANNEL_BITS = 8
"""Bits of the largest code of a channel with levels, which has to fit a byte."""

MAX_PLANES = 2**15
"""More than 4,096 channels of `MAX_CHANNEL_BITS` have, the most that a codec is fitted to."""

PROBABILITY_FLOOR = 1e-4
"""Distance from 0 and 1 to which probabilities are clamped before Φ is inverted, as in the published codec."""


def code_limit(bits: int) -> int:
    """Return the largest code of a signed `bits`-bit latent: 127 for 8 bits."""
    return 2 ** (bits - 1) - 1


def companded_limit(bits: int) -> float:
    """Return m of the formula above, where companding saturates: 127.499 for 8 bits, which rounds to `code_limit`."""
    return code_limit(bits) + 0.499


def companding_scale(bits: int) -> float:
    """Return s of the formula above: 127 / 1.85 for 8 bits."""
    return code_limit(bits) / 1.85


@lru_cache(maxsize=16)
def byte_values(bits: int, companding: str) -> np.ndarray:
    """Return the 256 values of stored bytes, float64 and read-only; NaN for bytes that cannot occur.

    With companding `normal` the value is s Φ⁻¹(code / (2 m) + 1/2), the probability clamped by `PROBABILITY_FLOOR`,
    which for a linear encoder is an affine function of the signal. With `none` it is byte / 255 - 0.5.
    """
    if companding == "none":
        values = np.arange(256) / 255 - 0.5
    else:
        inverse = NormalDist(0, companding_scale(bits)).inv_cdf
        limit = code_limit(bits)
        values = np.full(256, np.nan)
        for code in range(-limit, limit + 1):
            probability = code / (2 * companded_limit(bits)) + 0.5
            values[code + limit + 1] = inverse(min(max(probability, PROBABILITY_FLOOR), 1 - PROBABILITY_FLOOR))
    values.flags.writeable = False
    return values


def shapes_text(
    kind: str,
    source_channels: int,
    latent_channels: int,
    stride: int,
    *,
    extra_frames: int = 0,
    bits: int = 8,
    num_planes: int = 0,
) -> str:
    """Return a description of signals and their codes; `num_planes` is 0 for codes that are stored as bytes.

    >>> shapes_text("image", 3, 12, 8)
    'images (3, H, W) to codes (12, H/8, W/8) of 8 bits, 16x fewer values'
    >>> shapes_text("audio", 2, 27, 64, extra_frames=2)
    'audio (2, T) to codes (27, T/64 + 2) of 8 bits, 4.74x fewer values'
    >>> shapes_text("image", 3, 32, 8, bits=7, num_planes=96)
    'images (3, H, W) to codes (32, H/8, W/8) in 96 bit planes, 1.5 bits a pixel'
    """
    name, sides = ("images", ("H", "W")) if kind == "image" else (kind, ("T",))
    extra = f" + {extra_frames}" if extra_frames else ""
    steps = [f"{side}/{stride}{extra}" if stride > 1 else f"{side}{extra}" for side in sides]
    reduction = source_channels * stride ** len(sides) / latent_channels
    form = f"of {bits} bits, {reduction:.3g}x fewer values"
    if num_planes:
        point = "pixel" if kind == "image" else "time step"
        form = f"in {num_planes} bit planes, {num_planes / stride ** len(sides):.3g} bits a {point}"
    return f"{name} ({source_channels}, {', '.join(sides)}) to codes ({latent_channels}, {', '.join(steps)}) {form}"


def count_planes(planes: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Return the number of channels of bit planes, and the number of planes of each channel.

    Raises `CallError` unless the channels are integers from 0 up, numbered in the order of their first planes, with at
    most `MAX_CHANNEL_BITS` planes each.
    """
    if not isinstance(planes, tuple) or not 1 <= len(planes) <= MAX_PLANES:
        raise CallError(f"bit planes are no sequence of 1 to {MAX_PLANES:,} channel numbers")
    bits: list[int] = []
    for number, channel in enumerate(planes):
        if type(channel) is not int or not 0 <= channel <= len(bits):
            raise CallError(
                f"bit plane {number} is of channel {str(channel)[:20]}; expected one of 0 to {len(bits)}, as channels "
                "are numbered in the order of their first planes"
            )
        if channel == len(bits):
            bits.append(0)
        bits[channel] += 1
        if bits[channel] > MAX_CHANNEL_BITS:
            raise CallError(f"channel {channel} has more than {MAX_CHANNEL_BITS} bit planes")
    return len(bits), tuple(bits)


@dataclass(frozen=True)
class LatentSpec:
    """Description of a latent that does not need the codec; stored in every data set and checkpoint."""

    codec_id: str
    """SHA-256 (hex) of the encoding side of the codec: its configuration and the tensors of its encoder."""
    kind: str
    """`image` or `audio`."""
    source_channels: int
    latent_channels: int
    stride: int
    """Pixels (or samples) of the signal for each step of the latent grid, in every direction."""
    bits: int
    """Bits of a code; with companding `levels`, those of the channel that has most."""
    companding: str
    """`normal` (Φ, see above), `levels`, or `none`: the bytes are uint8 pixels, byte / 255 - 0.5."""
    extra_frames: int = 0
    """Latent frames beyond signal / stride; published 1-D codecs have two."""
    sample_rate: int | None = None
    """Sample rate in Hz, for audio."""
    planes: tuple[int, ...] | None = field(default=None, metadata={MAY_BE_OMITTED: True})
    """With companding `levels`, the channel of each stored bit plane, in order of importance; None for others. The n-th
    plane of a channel is the n-th bit of its codes, the most significant first. Channels are numbered in the order of
    their first planes."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise CallError(f"latent kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if self.companding not in COMPANDINGS:
            raise CallError(f"companding {self.companding!r} is not one of {', '.join(COMPANDINGS)}")
        if not 2 <= self.bits <= 8 and self.companding != "levels":
            raise CallError(f"{self.bits} bits a latent value; stored latents have 2 to 8")
        if self.companding == "none" and self.bits != 8:
            raise CallError(f"uncompanded latents of {self.bits} bits; they are pixels, which have 8")
        for name in ("source_channels", "latent_channels", "stride"):
            if getattr(self, name) < 1:
                raise CallError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("extra_frames", "sample_rate"):
            if (getattr(self, name) or 0) < 0:
                raise CallError(f"{name} is {getattr(self, name)}; it must not be negative")
        self._check_planes()

    def _check_planes(self) -> None:
        if (self.planes is None) != (self.companding != "levels"):
            found = "no bit planes" if self.planes is None else "bit planes"
            raise CallError(f"{found} with companding {self.companding!r}; only `levels` has them, and always")
        if self.planes is None:
            return
        num_channels, bits = count_planes(self.planes)
        if num_channels != self.latent_channels or max(bits) != self.bits:
            raise CallError(
                f"{self.latent_channels} latent channels of up to {self.bits} bits, but bit planes of {num_channels} "
                f"channels of up to {max(bits)}"
            )

    def __repr__(self) -> str:
        shapes = shapes_text(
            self.kind,
            self.source_channels,
            self.latent_channels,
            self.stride,
            extra_frames=self.extra_frames,
            bits=self.bits,
            num_planes=self.num_planes,
        )
        rate = f", {self.sample_rate} Hz" if self.sample_rate else ""
        return f"LatentSpec({shapes}{rate}, companding {self.companding}, codec {self.codec_id[:12]}…)"

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain values, for canonical JSON; `planes` only if there are bit planes."""
        fields = dataclasses.asdict(self)
        if self.planes is None:
            del fields["planes"]
        else:
            fields["planes"] = list(self.planes)
        return fields

    @property
    def num_planes(self) -> int:
        """Number of stored bit planes; 0 for codes that are stored as bytes."""
        return len(self.planes or ())

    @property
    def channel_bits(self) -> tuple[int, ...]:
        """Bits of the codes of each channel, (K,)."""
        return (self.bits,) * self.latent_channels if self.planes is None else count_planes(self.planes)[1]

    def with_planes(self, num_planes: int) -> LatentSpec:
        """Return the spec of the first `num_planes` bit planes of these latents, a coarser form of them.

        Raises `CallError` for latents without bit planes, and for none or more than there are.
        """
        if self.planes is None:
            raise CallError("these latents are stored as bytes, so they have one size only; omit the number of bytes")
        if not 1 <= num_planes <= len(self.planes):
            raise CallError(f"{num_planes} bit planes of latents that have {len(self.planes)}; give 1 to that many")
        planes = self.planes[:num_planes]
        num_channels, bits = count_planes(planes)
        return dataclasses.replace(self, planes=planes, latent_channels=num_channels, bits=max(bits))

    @property
    def byte_range(self) -> tuple[int, int]:
        """Smallest and largest byte that occurs in stored codes: (1, 255) for companded 8 bits."""
        if self.companding == "none":
            return 0, 255
        if self.companding == "levels":
            return 0, 2**self.bits - 1
        return 1, 2 * code_limit(self.bits) + 1

    def byte_values(self) -> np.ndarray:
        """Return the 256 values of stored bytes, float64; see the function `byte_values`.

        Latents with levels have a table for each channel: `walloc_cdl.planes.levels.channel_values`.
        """
        return byte_values(self.bits, self.companding)

    def require_equal(self, other: LatentSpec, *, name: str, other_name: str) -> None:
        """Raise `SpecMismatchError`, with both values of the first field that differs, unless the specs are equal.

        The message calls the owners of the two specs `name` and `other_name`.
        """
        for entry in dataclasses.fields(self):
            value, other_value = getattr(self, entry.name), getattr(other, entry.name)
            if value != other_value:
                if entry.name == "codec_id":
                    value, other_value = value[:12], other_value[:12]
                elif entry.name == "planes":
                    value, other_value = _planes_text(value), _planes_text(other_value)
                raise SpecMismatchError(
                    f"{name} has {entry.name} {value!r}, but {other_name} has {other_value!r}; "
                    "use the codec that made the data"
                )

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of a latent: K, h, w for images, K, t for audio."""
        return ("K", "h", "w") if self.kind == "image" else ("K", "t")

    def reduction(self) -> float:
        """Return the number of source values for each latent value: 16.0 for RGB with K = 12 and stride 8."""
        return self.source_channels * self.stride ** (len(self.axes) - 1) / self.latent_channels


def _planes_text(planes: tuple[int, ...] | None) -> str:
    return "none" if planes is None else f"{len(planes)} of channels {', '.join(map(str, planes[:6]))}, …"
