"""Processes on this machine: workers decode and resize while this one encodes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence

from datasets_prep.decode.pool import DecodePool
from datasets_prep.encode.encoder import AnyEncoder, open_encoding
from datasets_prep.job.context import Job
from datasets_prep.job.encode_shard import Done, encode_shard
from datasets_prep.job.progress import counted
from datasets_prep.ledger.shard_records import ShardRecord
from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.samples.stored import Stored
from walloc_cdl.devices import choose_device


class LocalEngine:
    """Shard after shard; the workers share the decoding inside of each, so a small data set is not slow."""

    name = "local"

    def encode(
        self,
        job: Job,
        shards: Sequence[PlannedShard],
        report: Callable[[Done], None],
        report_workers: Callable[[str], None],
    ) -> Generator[ShardRecord, None, None]:
        """See `Engine.encode`."""
        report_workers(counted(job.workers, "worker"))
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
