"""`PrepareConfig`: how a source is encoded."""

from __future__ import annotations

from dataclasses import dataclass

from datasets_prep.signals.audio import NORMALIZATIONS
from walloc_cdl.errors import CallError, unknown_name

DEFAULT_SEGMENT_S = 5.0


@dataclass(frozen=True)
class PrepareConfig:
    """How a source is encoded; settings for another kind of signal than the source's are refused."""

    size: int | None = None
    """Pixels a side of the crop of an image, a multiple of the codec's stride; None is 256."""
    shard_samples: int | None = None
    """Source samples for each shard; None is 8,192 or 128 MiB of codes, whichever is less."""
    workers: int | None = None
    """Decoding processes; 0 decodes in this one, None takes one for each CPU."""
    batch: int = 32
    """Samples encoded at once."""
    limit: int | None = None
    """At most so many samples of each split, evenly spaced."""
    restart: bool = False
    """Remove what an earlier job left in the output folder, finished or not."""
    device: str = "auto"
    segment_s: float | None = None
    """Seconds of a segment of audio, rounded down to a multiple of the codec's stride; None is 5."""
    hop_s: float | None = None
    """Seconds from one segment's beginning to the next one's; None is the segment's length."""
    normalization: str | None = None
    """Of audio: `none`, the default, or `clip`; see `datasets_prep.signals.audio`."""

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("shard_samples", 1), ("workers", 0), ("batch", 1), ("limit", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise CallError(f"{name} is {value}; it must be at least {least}")
        for name in ("segment_s", "hop_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise CallError(f"{name} is {value:g}; expected a duration above 0 s")
        if self.normalization is not None and self.normalization not in NORMALIZATIONS:
            choices = ", ".join(NORMALIZATIONS)
            raise unknown_name("normalization", self.normalization, NORMALIZATIONS, f"choose one of {choices}")
