"""`LatentSpec`, the contract that a stored latent obeys, and the companding tables that follow from it.

Companding maps an unbounded latent to a uniform scale of `bits` bits. The one used by WaLLoC
(Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", arXiv:2412.09405) is the
normal distribution function Φ:

    companded = 2 m (Φ(z / s) - 1/2),   m = 2^(bits-1) - 1 + 0.499,   s = (2^(bits-1) - 1) / 1.85

and rounding it gives the code, an integer in ±(2^(bits-1) - 1). A code is stored as the byte
code + 2^(bits-1), so that byte 0 never occurs.
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
"""Probabilities are kept this far from 0 and 1 before Φ is inverted, as the published codec does."""


def code_limit(bits: int) -> int:
    """Largest code of a signed `bits`-bit latent: 127 for 8 bits."""
    return 2 ** (bits - 1) - 1


def companded_limit(bits: int) -> float:
    """The m above: where companding saturates, 127.499 for 8 bits; it still rounds to `code_limit`."""
    return code_limit(bits) + 0.499


def companding_scale(bits: int) -> float:
    """The s above: 127 / 1.85 for 8 bits."""
    return code_limit(bits) / 1.85


@lru_cache(maxsize=16)
def byte_values(bits: int, companding: str) -> np.ndarray:
    """The 256 values, float64 and read-only, that stored bytes stand for; NaN for bytes that cannot occur.

    Companded: s Φ⁻¹(code / (2 m) + 1/2) with the probability kept `PROBABILITY_FLOOR` from 0 and 1,
    which is an affine function of the pixels again. Uncompanded: byte / 255 - 0.5.
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


@dataclass(frozen=True)
class LatentSpec:
    """What a latent is, without the codec that made it; written in every data set and checkpoint."""

    codec_id: str
    """SHA-256 (hex) over the encoding side of the codec: its configuration and its encoder's tensors."""
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
    """Samples a second, in Hz, for audio."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise CallError(f"latent kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if self.companding not in COMPANDINGS:
            raise CallError(f"companding {self.companding!r} is not one of {', '.join(COMPANDINGS)}")
        if not 2 <= self.bits <= 8:
            raise CallError(f"{self.bits} bits a latent value; stored latents have 2 to 8")
        if self.companding == "none" and self.bits != 8:
            raise CallError(f"uncompanded latents are 8-bit pixels, not {self.bits}-bit")
        for name in ("source_channels", "latent_channels", "stride"):
            if getattr(self, name) < 1:
                raise CallError(f"{name} is {getattr(self, name)}; it must be at least 1")

    def to_json(self) -> dict[str, object]:
        """Plain values, for canonical JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, object]) -> LatentSpec:
        """Inverse of `to_json`; raises `CallError` for missing or unknown fields."""
        known = {field.name for field in dataclasses.fields(cls)}
        wrong = known ^ set(fields)
        if wrong:
            raise CallError(f"latent spec with missing or unknown fields {sorted(wrong)}; expected {sorted(known)}")
        return cls(**fields)  # type: ignore[arg-type]

    @property
    def byte_range(self) -> tuple[int, int]:
        """Smallest and largest byte that occurs in stored codes: (1, 255) for companded 8 bits."""
        if self.companding == "none":
            return 0, 255
        return 1, 2 * code_limit(self.bits) + 1

    def byte_values(self) -> np.ndarray:
        """The 256 values, float64, that stored bytes stand for; see `byte_values`."""
        return byte_values(self.bits, self.companding)

    def require_equal(self, other: LatentSpec, *, here: str, there: str) -> None:
        """Raise `SpecMismatchError`, naming the first differing field's two values, unless equal.

        `here` and `there` say in the message what the two specs belong to.
        """
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if mine != theirs:
                if field.name == "codec_id":
                    mine, theirs = mine[:12], theirs[:12]
                raise SpecMismatchError(
                    f"{here} has {field.name} {mine!r}, but {there} has {theirs!r}; use the codec that made the data"
                )

    @property
    def axes(self) -> tuple[str, ...]:
        """Letters of a latent's axes: K, h, w for images, K, t for audio."""
        return ("K", "h", "w") if self.kind == "image" else ("K", "t")

    def reduction(self) -> float:
        """Source values for each latent value: 16.0 for 12 channels at stride 8 of RGB."""
        return self.source_channels * self.stride ** (len(self.axes) - 1) / self.latent_channels
