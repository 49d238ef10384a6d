"""Processes on this machine: workers decode and resize while this one encodes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence

from datasets_prep.devices import choose_device
from datasets_prep.encoding import AnyEncoder, open_encoding
from datasets_prep.engines.base import Job
from datasets_prep.plan import PlannedShard
from datasets_prep.progress import counted
from datasets_prep.records import ShardRecord
from datasets_prep.shard_job import Done, encode_shard
from datasets_prep.signals.base import Stored
from datasets_prep.workers import DecodePool


class LocalEngine:
    """Shard after shard; the workers share the decoding inside of each, so a small data set is not slow."""

    name = "local"

    def encode(
        self,
        job: Job,
        shards: Sequence[PlannedShard],
        report: Callable[[Done], None],
        tell_crew: Callable[[str], None],
    ) -> Generator[ShardRecord, None, None]:
        """See `Engine.encode`."""
        tell_crew(counted(job.workers, "worker"))
        encoding = open_encoding(job.codec, job.preparation, choose_device(job.device), batch=job.batch)
        with DecodePool(job.workers, job.preparation, encoding.in_workers) as pool:
            yield from encode_shards(job, shards, pool, encoding.encoder, report)


def encode_shards(
    job: Job,
    shards: Sequence[PlannedShard],
    pool: DecodePool,
    encoder: AnyEncoder,
    report: Callable[[Done], None],
) -> Iterator[ShardRecord]:
    """Make these shards in turn; those to come are being decoded while one is encoded."""
    decoded = pool.decode(_tasks(job, shards))
    for shard, chunks in itertools.groupby(decoded, key=lambda item: item[0]):
        samples = (chunk for _, chunk in chunks)
        yield encode_shard(job.folder, job.plan_digest, job.source, shard, samples, encoder, report)


def _tasks(job: Job, shards: Sequence[PlannedShard]) -> Iterator[tuple[PlannedShard, list[Stored]]]:
    """Chunks of samples, none across two shards, tagged with the shard."""
    step = job.preparation.chunk_samples
    for shard in shards:
        for start in range(shard.start, shard.stop, step):
            stop = min(start + step, shard.stop)
            yield shard, [job.source.read(shard.split, index) for index in range(start, stop)]
