"""Where a job stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from datasets_prep.ledger.shard_records import ShardRecord
from datasets_prep.samples.planned_shard import PlannedShard
from walloc_cdl.errors import JobError

JUDGED_SAMPLES = 1000
"""Before so many samples of a stream have come, nothing is said of the share of bad ones, unless it ends."""


@dataclass(frozen=True)
class Progress:
    """Where a job stands."""

    done: int
    """Source samples that need no more work; in a resumed job those of earlier runs count."""
    total: int | None
    """None for a stream, whose end is not known."""
    quarantined: int
    source_bytes: int = 0
    """Read by this run."""
    worker_status: str = ""
    """Who is at work, for people: `4 workers` of this machine, `up to 16 tasks at once` of a cluster."""
    note: str = ""
    """A sentence worth showing, on a change of phase."""
    finished: ShardRecord | None = None
    """The shard that this report is about, if it is about the end of one."""


class Reporter:
    """Adds up what `Progress` says, and stops a job with too many bad samples."""

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
        """Samples that this run has decoded; the others were done before."""
        self._worker_status = worker_status
        self._max_bad = max_bad
        self._callback = callback

    def advance(self, num_samples: int, num_quarantined: int, source_bytes: int) -> None:
        """Some more samples are decoded; `JobError` if more are bad than is allowed."""
        self._add(num_samples, num_quarantined)
        self.num_encoded += num_samples
        self.source_bytes += source_bytes
        self._tell()

    def resume(self, shard: PlannedShard, record: ShardRecord) -> None:
        """A shard is done since an earlier run; `JobError` if more samples are bad than is allowed."""
        self._add(shard.num_samples, record.num_quarantined)

    def worker_status(self, text: str) -> None:
        """Who is at work from now on; see `Progress.worker_status`."""
        if text != self._worker_status:
            self._worker_status = text
            self._tell()

    def shard(self, record: ShardRecord) -> None:
        """A shard is done."""
        self._tell(finished=record)

    def end(self) -> None:
        """A stream has ended; `JobError` if more of its samples were bad than is allowed."""
        self._judge(self.done)

    def note(self, text: str) -> None:
        """A change of phase."""
        self._tell(note=text)

    def _add(self, samples: int, quarantined: int) -> None:
        self.done += samples
        self.quarantined += quarantined
        self._judge(max(self.done, JUDGED_SAMPLES) if self.total is None else self.total)

    def _judge(self, total: int) -> None:
        """Raise `JobError` when more are bad than is allowed of so many."""
        if self._max_bad is not None and self.quarantined > self._max_bad * total:
            of_all = "them" if self.total is None else f"all {self.total}"
            raise JobError(
                f"{self.quarantined} of the first {self.done} samples cannot be used, more than {self._max_bad:.3g} of "
                f"{of_all}; check the source, or allow more with --max-bad and go on"
            )

    def _tell(self, note: str = "", finished: ShardRecord | None = None) -> None:
        if self._callback is not None:
            self._callback(
                Progress(
                    self.done, self.total, self.quarantined, self.source_bytes, self._worker_status, note, finished
                )
            )


def counted(number: int, noun: str) -> str:
    """A number of things for people.

    >>> counted(1, "worker"), counted(2, "worker")
    ('1 worker', '2 workers')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
