"""What a classifier of sound is trained on: a budget of latents, or a waveform that was resampled."""

from __future__ import annotations

import re
from dataclasses import dataclass

from walloc_cdl.errors import CallError

PATTERN = re.compile(r"(latents|waves)-(\d{1,9})(x?)")
EXAMPLES = "such as latents-13780 (bytes of a segment) or waves-16x"
CHANNEL_NAMES = {1: "mono", 2: "stereo"}


@dataclass(frozen=True)
class SoundCondition:
    """`latents-BYTES`, a prefix of the rows of the codec `mono` or `stereo`, or `waves-Nx`, every N-th sample."""

    name: str
    codec: str
    """Name in the zoo."""
    num_bytes: int | None
    """Budget of a segment; None for waves, which have one size."""

    @property
    def is_baseline(self) -> bool:
        """Whether it is a waveform."""
        return self.num_bytes is None


def parse_sound_condition(text: str, channels: int) -> SoundCondition:
    """Return the condition of this name; raises `CallError` for another text, and for sounds of more channels."""
    if channels not in CHANNEL_NAMES:
        raise CallError(f"sounds of {channels} channels; comparisons are of mono and stereo")
    found = PATTERN.fullmatch(text)
    if found is None or (found[1] == "waves") != (found[3] == "x") or int(found[2]) < 1:
        raise CallError(f"unknown condition {text[:60]!r}; name conditions {EXAMPLES}")
    kind = CHANNEL_NAMES[channels]
    if found[1] == "waves":
        return SoundCondition(text, f"resize-{kind}-{found[2]}x", None)
    return SoundCondition(text, kind, int(found[2]))
