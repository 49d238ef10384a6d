"""Decides what becomes of samples that the system cannot read: they need not be bad, since the source may be away.

A source may be unmounted, forbidden or unreachable for a while. If its samples were quarantined then, a job would end
well and without them. So the job stops at the first sample that the listing had found and that cannot be read now, to
be resumed when the source is back. Users who want the rest anyway set `PrepareConfig.unreadable`; whole stretches of
unreadable samples stop the job even then, and also where the listing cannot tell whether samples exist, as for URLs.
"""

from __future__ import annotations

from collections import deque

from datasets_prep.decode.chunks import DecodedChunk
from datasets_prep.samples.stored import ReadFailure
from datasets_prep.sources.core.source import Presence, Source
from walloc_cdl.errors import JobError

QUARANTINE = "quarantine"

WINDOW_SAMPLES = 64
MAX_WINDOW_FAILURES = 48
"""The job stops if this number of the last `WINDOW_SAMPLES` samples cannot be read. Tables of URLs have up to a third
of dead ones, scattered; 48 of 64 of them are as good as impossible, but a source that is away reaches 64."""


class ReadFailures:
    """The samples of a job, in the order in which it stores them, that the system could not read."""

    def __init__(self) -> None:
        self._recent: deque[bool] = deque(maxlen=WINDOW_SAMPLES)

    def check(self, source: Source, split: str, start: int, chunk: DecodedChunk, unreadable: str) -> None:
        """Raise `JobError` if samples of a chunk show that the source is away; `start` is the index of its first one.

        `unreadable` is the setting of the job.
        """
        if chunk.failures:
            require_source(source)
        for position in range(len(chunk.hashes)):
            failure = chunk.failures.get(position)
            presence = source.presence(split, start + position)
            if failure is not None and presence is Presence.FOUND and unreadable != QUARANTINE:
                raise JobError(
                    f"{_described(source, split, start + position, chunk.reasons[position])}, although the source "
                    f"lists it{_others(chunk)}; restore the source and run the same command again to "
                    "continue, or give `cdl prepare` --unreadable quarantine to go on without such samples"
                )
            self._recent.append(
                failure is not None
                and (presence is Presence.FOUND or (presence is Presence.UNKNOWN and failure is ReadFailure.FAILED))
            )
            if self._recent[-1] and sum(self._recent) >= MAX_WINDOW_FAILURES:
                raise JobError(
                    f"{sum(self._recent)} of the last {len(self._recent)} samples cannot be read, the last being "
                    f"{_described(source, split, start + position, chunk.reasons[position])}; the source is "
                    "unavailable: restore it and run the same command again to continue"
                )


def require_source(source: Source) -> None:
    """Raise `JobError` if the whole source is missing."""
    if missing := source.absence():
        raise JobError(f"{missing} is missing; restore it and run the same command again to continue")


def _described(source: Source, split: str, index: int, reason: str) -> str:
    return f"sample {source.key(split, index)!r} of split {split!r}: {reason}"


def _others(chunk: DecodedChunk) -> str:
    """Return how many samples of a chunk cannot be read, if it is not the one that the message names."""
    count = len(chunk.failures)
    return f" ({count} of {len(chunk.hashes)} samples here fail)" if count > 1 else ""
