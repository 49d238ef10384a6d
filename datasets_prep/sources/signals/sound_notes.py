"""What cutting, padding and resampling clips changes, for users, before a job begins: counts, seconds and rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from datasets_prep.decode.audio import AudioPreparation, ClipInfo

NEGLIGIBLE = 0.01
"""A smaller share of a clip, such as what rounding to the stride drops, is not reported."""

MAX_KINDS = 3
"""How many kinds of clips, by rate and channels, have a message of their own, the most frequent first."""


class ClipNotes:
    """Adds up what happens to the clips of a source."""

    def __init__(self, preparation: AudioPreparation) -> None:
        self._preparation = preparation
        self._kinds: Counter[tuple[int, int]] = Counter()
        """Numbers of clips by rate in Hz and channels."""
        self._num_cut = self._num_filled = 0
        self._dropped_s = self._filled_s = self._total_s = 0.0

    def add(self, info: ClipInfo, starts: Sequence[int] | None) -> None:
        """Add a clip whose segments begin at `starts`, in samples at the preparation's rate; None for a whole clip."""
        preparation = self._preparation
        frames = info.resampled_frames(preparation.sample_rate)
        self._kinds[info.sample_rate, info.channels] += 1
        self._total_s += frames / preparation.sample_rate
        if starts is None:
            return
        filled = starts[-1] + preparation.num_samples - frames
        dropped = frames - starts[-1] - max(preparation.hop, preparation.num_samples)
        if filled > 0:
            self._filled_s += filled / preparation.sample_rate
            self._num_filled += filled > NEGLIGIBLE * preparation.num_samples
        if dropped > 0:
            self._dropped_s += dropped / preparation.sample_rate
            self._num_cut += dropped > NEGLIGIBLE * frames

    def notes(self, codec_name: str, reduction: float) -> list[str]:
        """Return the messages for a codec that makes `reduction` times fewer values of its input.

        Each message names the option that changes what it says.
        """
        total, segment_s = self._kinds.total(), self._preparation.num_samples / self._preparation.sample_rate
        notes = []
        if self._num_cut:
            notes.append(
                f"{self._num_cut:,} of {total:,} clips are longer than their whole segments of {segment_s:.3g} s: "
                f"{self._dropped_s:,.1f} s of {self._total_s:,.1f} s, at their ends, are dropped; --rest pad keeps "
                "them in a last segment, filled with silence; --segment SECONDS changes the length"
            )
        if self._num_filled:
            notes.append(
                f"{self._num_filled:,} of {total:,} clips end before their last segment of {segment_s:.3g} s, which is "
                f"filled with silence, {self._filled_s:,.1f} s in all; --segment SECONDS changes the length, and "
                "--geometry ragged keeps whole clips"
            )
        return [*notes, *self._kind_notes(codec_name, reduction)]

    def _kind_notes(self, codec_name: str, reduction: float) -> list[str]:
        total, rate, channels = self._kinds.total(), self._preparation.sample_rate, self._preparation.channels
        others = [(kind, count) for kind, count in self._kinds.most_common() if kind != (rate, channels)]
        notes = []
        for (found, found_channels), count in others[:MAX_KINDS]:
            real = reduction * found * found_channels / (rate * channels)
            changes = ["resampled"] if found != rate else []
            if found_channels != channels:
                is_mixed = channels < found_channels
                changes.append("mixed down" if is_mixed else f"turned into {_channels_text(channels)}")
            lost = f", frequencies above {rate // 2:,} Hz are lost," if found > rate else ""
            notes.append(
                f"{count:,} of {total:,} clips have {found:,} Hz and {_channels_text(found_channels)}, but codec "
                f"{codec_name} takes {rate:,} Hz and {_channels_text(channels)}: they are {' and '.join(changes)}{lost}"
                f" and {reduction:.3g} times fewer values are {real:.3g} times fewer than in these files; `cdl codec "
                f"fit SOURCE --sample-rate {found} --channels {found_channels} --out DIR` fits a codec to them"
            )
        if len(others) > MAX_KINDS:
            rest = sum(count for _, count in others[MAX_KINDS:])
            notes.append(f"{rest:,} of {total:,} clips have {len(others) - MAX_KINDS} further rates or channel counts")
        return notes


def _channels_text(number: int) -> str:
    return {1: "mono", 2: "stereo"}.get(number, f"{number} channels")
