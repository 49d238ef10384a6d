"""The progress of a job, and the limit for its share of unusable samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from datasets_prep.ledger.shard_records import ShardRecord
from datasets_prep.samples.planned_shard import PlannedShard
from walloc_cdl.errors import JobError

MIN_STREAM_SAMPLES = 1000
"""The share of unusable samples of a stream is relative to at least this number of samples until the stream ends."""


@dataclass(frozen=True)
class Progress:
    """The progress of a job."""

    done: int
    """Number of finished source samples; in a resumed job, including those of earlier runs."""
    total: int | None
    """Number of source samples; None for a stream, whose end is not known."""
    quarantined: int
    """Number of unusable samples among `done`."""
    source_bytes: int = 0
    """Number of bytes that this run has read."""
    worker_status: str = ""
    """Text for users: `4 workers` on this machine, or `up to 16 tasks at once` on a cluster."""
    note: str = ""
    """A message for users, when the job's phase changes."""
    finished: ShardRecord | None = None
    """The shard that has just been finished, if any."""


def report_notes(notes: Iterable[str], total: int | None, callback: Callable[[Progress], None] | None) -> None:
    """Report messages for users before a job of `total` samples begins."""
    for note in notes if callback is not None else ():
        callback(Progress(0, total, 0, note=note))


class Reporter:
    """Counts and reports the progress of a job, and stops a job with too many unusable samples."""

    def __init__(
        self,
        total: int | None,
        max_bad: float | None,
        callback: Callable[[Progress], None] | None,
        *,
        worker_status: str = "",
    ) -> None:
        self.total = total
        self.done = self.quarantined = self.source_bytes = 0
        self.num_encoded = 0
        """Number of samples that this run has decoded, without those of earlier runs."""
        self._worker_status = worker_status
        self._max_bad = max_bad
        self._callback = callback

    def advance(self, num_samples: int, num_quarantined: int, source_bytes: int) -> None:
        """Count decoded samples; raises `JobError` if more samples are unusable than allowed."""
        self._add(num_samples, num_quarantined)
        self.num_encoded += num_samples
        self.source_bytes += source_bytes
        self._report()

    def resume(self, shard: PlannedShard, record: ShardRecord) -> None:
        """Count a shard that an earlier run has made; raises `JobError` if more samples are unusable than allowed."""
        self._add(shard.num_samples, record.num_quarantined)

    def worker_status(self, text: str) -> None:
        """Set and report `Progress.worker_status`."""
        if text != self._worker_status:
            self._worker_status = text
            self._report()

    def shard(self, record: ShardRecord) -> None:
        """Report a finished shard."""
        self._report(finished=record)

    def end(self) -> None:
        """Check a stream at its end; raises `JobError` if more of its samples are unusable than allowed."""
        self._check_max_bad(self.done)

    def note(self, text: str) -> None:
        """Report a change of phase."""
        self._report(note=text)

    def _add(self, samples: int, quarantined: int) -> None:
        self.done += samples
        self.quarantined += quarantined
        self._check_max_bad(max(self.done, MIN_STREAM_SAMPLES) if self.total is None else self.total)

    def _check_max_bad(self, total: int) -> None:
        """Raise `JobError` if more of `total` samples are unusable than allowed."""
        if self._max_bad is not None and self.quarantined > self._max_bad * total:
            of_all = "them" if self.total is None else f"all {self.total}"
            raise JobError(
                f"{self.quarantined} of the first {self.done} samples cannot be used, more than {self._max_bad:.3g} of "
                f"{of_all}; check the source, or allow more with --max-bad and continue"
            )

    def _report(self, note: str = "", finished: ShardRecord | None = None) -> None:
        if self._callback is not None:
            self._callback(
                Progress(
                    self.done, self.total, self.quarantined, self.source_bytes, self._worker_status, note, finished
                )
            )


def count_text(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural if needed.

    >>> count_text(1, "worker"), count_text(2, "worker")
    ('1 worker', '2 workers')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
