"""Decides what becomes of samples that the system cannot read: they need not be bad, since the source may be away.

A source may be unmounted, forbidden or unreachable for a while. If its samples were quarantined then, a job would end
well and without them. So the job stops at the first sample that the listing had found and that cannot be read now, to
be resumed when the source is back. Users who want the rest anyway set `PrepareConfig.unreadable`; whole stretches of
unreadable samples stop the job even then, and also where the listing cannot tell whether samples exist, as for URLs.

What else goes through a source, such as fits, measurements and forecasts, stops likewise: its result would be that of
other samples.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from datasets_prep.decode.chunks import DecodedChunk
from datasets_prep.samples.stored import BadSignalError, ReadFailure, UnreadableError
from datasets_prep.sources.core.source import Presence, Source
from walloc_cdl.errors import JobError

QUARANTINE = "quarantine"

WINDOW_SAMPLES = 64
MAX_WINDOW_FAILURES = 48
"""The job stops if this number of the last `WINDOW_SAMPLES` samples cannot be read. Tables of URLs have up to a third
of dead ones, scattered; 48 of 64 of them are as good as impossible, but a source that is away reaches 64."""

CONTINUE = "run the same command again to continue"
REPEAT = "run the same command again"
_OF_JOBS = "give `cdl prepare` --unreadable quarantine to go on without such samples"


class ReadFailures:
    """The samples of a job or of another pass through a source, in order, that the system could not read."""

    def __init__(self, again: str = CONTINUE) -> None:
        """`again`: what to do when the source is back, `CONTINUE` for jobs, `REPEAT` for what keeps nothing."""
        self._again = again
        self._recent: deque[bool] = deque(maxlen=WINDOW_SAMPLES)

    def check(self, source: Source, split: str, start: int, chunk: DecodedChunk, unreadable: str) -> None:
        """Raise `JobError` if samples of a chunk show that the source is away; `start` is the index of its first one.

        `unreadable` is the setting of the job.
        """
        self.check_places(source, [(split, start + each) for each in range(len(chunk.hashes))], chunk, unreadable)

    def check_places(
        self, source: Source, places: Sequence[tuple[str, int]], chunk: DecodedChunk, unreadable: str
    ) -> None:
        """Do as `check` for a chunk of samples from anywhere: `places` are their splits and indices."""
        way_on = "" if unreadable == QUARANTINE else _OF_JOBS
        for position, (split, index) in enumerate(places):
            failure, reason = chunk.failures.get(position), chunk.reasons.get(position, "")
            self.check_sample(source, split, index, failure, reason, way_on=way_on, others=_others(chunk))

    def check_sample(
        self,
        source: Source,
        split: str,
        index: int,
        failure: ReadFailure | None,
        reason: str,
        *,
        way_on: str = "take it out of the source",
        others: str = "",
    ) -> None:
        """Raise `JobError` if a sample shows that the source is away.

        `failure` is None for a sample that was read, whether it can be used or not. `way_on` is what the message
        offers besides restoring the source; "" tolerates single samples that are listed but cannot be read.
        """
        if failure is not None:
            require_source(source, self._again)
        presence = source.presence(split, index)
        if failure is not None and presence is Presence.FOUND and way_on:
            raise JobError(
                f"{_described(source, split, index, reason)}, although the source lists it{others}; restore the source "
                f"and {self._again}, or {way_on}"
            )
        self._recent.append(
            failure is not None
            and (presence is Presence.FOUND or (presence is Presence.UNKNOWN and failure is ReadFailure.FAILED))
        )
        if self._recent[-1] and sum(self._recent) >= MAX_WINDOW_FAILURES:
            raise JobError(
                f"{sum(self._recent)} of the last {len(self._recent)} samples cannot be read, the last being "
                f"{_described(source, split, index, reason)}; the source is unavailable: restore it and {self._again}"
            )

    def check_error(self, source: Source, split: str, index: int, error: BadSignalError | None) -> None:
        """Do as `check_sample` for the error of a sample, None for one that was read."""
        failure = error.failure if isinstance(error, UnreadableError) else None
        self.check_sample(source, split, index, failure, str(error))


def require_source(source: Source, again: str = CONTINUE) -> None:
    """Raise `JobError` if the whole source is missing; `again`: see `ReadFailures`."""
    if missing := source.absence():
        raise JobError(f"{missing} is missing; restore it and {again}")


def _described(source: Source, split: str, index: int, reason: str) -> str:
    return f"sample {source.key(split, index)!r} of split {split!r}: {reason}"


def _others(chunk: DecodedChunk) -> str:
    """Return how many samples of a chunk cannot be read, if it is not the one that the message names."""
    count = len(chunk.failures)
    return f" ({count} of {len(chunk.hashes)} samples here fail)" if count > 1 else ""
