"""`LatentSpec`, which describes a stored latent, and the companding tables that follow from it.

Companding maps an unbounded latent to a uniform scale of `bits` bits. WaLLoC
(Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", arXiv:2412.09405) uses the
normal distribution function Φ:

    companded = 2 m (Φ(z / s) - 1/2),   m = 2^(bits-1) - 1 + 0.499,   s = (2^(bits-1) - 1) / 1.85

Rounding the companded value gives the code, an integer in ±(2^(bits-1) - 1). A code is stored as the
byte code + 2^(bits-1), so that byte 0 never occurs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from walloc_cdl.errors import CallError, SpecMismatchError

KINDS = ("image", "audio")
COMPANDINGS = ("none", "normal")

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
    kind: str, source_channels: int, latent_channels: int, stride: int, *, extra_frames: int = 0, bits: int = 8
) -> str:
    """Return a description of signals and their codes.

    >>> shapes_text("image", 3, 12, 8)
    'images (3, H, W) to codes (12, H/8, W/8) of 8 bits, 16x fewer values'
    >>> shapes_text("audio", 2, 27, 64, extra_frames=2)
    'audio (2, T) to codes (27, T/64 + 2) of 8 bits, 4.74x fewer values'
    """
    name, sides = ("images", ("H", "W")) if kind == "image" else (kind, ("T",))
    extra = f" + {extra_frames}" if extra_frames else ""
    steps = [f"{side}/{stride}{extra}" if stride > 1 else f"{side}{extra}" for side in sides]
    reduction = source_channels * stride ** len(sides) / latent_channels
    return (
        f"{name} ({source_channels}, {', '.join(sides)}) to codes ({latent_channels}, {', '.join(steps)}) "
        f"of {bits} bits, {reduction:.3g}x fewer values"
    )


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
    companding: str
    """`normal` (Φ, see above), or `none`: the bytes are uint8 pixels, byte / 255 - 0.5."""
    extra_frames: int = 0
    """Latent frames beyond signal / stride; published 1-D codecs have two."""
    sample_rate: int | None = None
    """Sample rate in Hz, for audio."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise CallError(f"latent kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if self.companding not in COMPANDINGS:
            raise CallError(f"companding {self.companding!r} is not one of {', '.join(COMPANDINGS)}")
        if not 2 <= self.bits <= 8:
            raise CallError(f"{self.bits} bits a latent value; stored latents have 2 to 8")
        if self.companding == "none" and self.bits != 8:
            raise CallError(f"uncompanded latents of {self.bits} bits; they are pixels, which have 8")
        for name in ("source_channels", "latent_channels", "stride"):
            if getattr(self, name) < 1:
                raise CallError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("extra_frames", "sample_rate"):
            if (getattr(self, name) or 0) < 0:
                raise CallError(f"{name} is {getattr(self, name)}; it must not be negative")

    def __repr__(self) -> str:
        shapes = shapes_text(
            self.kind,
            self.source_channels,
            self.latent_channels,
            self.stride,
            extra_frames=self.extra_frames,
            bits=self.bits,
        )
        rate = f", {self.sample_rate} Hz" if self.sample_rate else ""
        return f"LatentSpec({shapes}{rate}, companding {self.companding}, codec {self.codec_id[:12]}…)"

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain values, for canonical JSON."""
        return dataclasses.asdict(self)

    @property
    def byte_range(self) -> tuple[int, int]:
        """Smallest and largest byte that occurs in stored codes: (1, 255) for companded 8 bits."""
        if self.companding == "none":
            return 0, 255
        return 1, 2 * code_limit(self.bits) + 1

    def byte_values(self) -> np.ndarray:
        """Return the 256 values of stored bytes, float64; see the function `byte_values`."""
        return byte_values(self.bits, self.companding)

    def require_equal(self, other: LatentSpec, *, name: str, other_name: str) -> None:
        """Raise `SpecMismatchError`, with both values of the first field that differs, unless the specs are equal.

        The message calls the owners of the two specs `name` and `other_name`.
        """
        for field in dataclasses.fields(self):
            value, other_value = getattr(self, field.name), getattr(other, field.name)
            if value != other_value:
                if field.name == "codec_id":
                    value, other_value = value[:12], other_value[:12]
                raise SpecMismatchError(
                    f"{name} has {field.name} {value!r}, but {other_name} has {other_value!r}; "
                    "use the codec that made the data"
                )

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of a latent: K, h, w for images, K, t for audio."""
        return ("K", "h", "w") if self.kind == "image" else ("K", "t")

    def reduction(self) -> float:
        """Return the number of source values for each latent value: 16.0 for RGB with K = 12 and stride 8."""
        return self.source_channels * self.stride ** (len(self.axes) - 1) / self.latent_channels
