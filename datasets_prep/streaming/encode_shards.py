"""The shards of a stream, one after the other, as its samples come."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

from datasets_prep.decode.chunks import DecodedChunk
from datasets_prep.decode.pool import DecodePool
from datasets_prep.encode.encoder import AnyEncoder
from datasets_prep.job.encode_shard import Done, encode_shard
from datasets_prep.ledger.shard_records import ShardRecord
from datasets_prep.sources.core.stream_shards import OpenShard
from datasets_prep.streaming.reservoir import Reservoir
from datasets_prep.streaming.walk import Drawn, Walk


def encode_walk(
    folder: Path,
    plan_digest: str,
    walk: Walk,
    reservoir: Reservoir,
    pool: DecodePool,
    encoder: AnyEncoder,
    report: Callable[[Done], None],
) -> Iterator[ShardRecord]:
    """Make the shards of a split that are not done; yields each one's record, then raises the walk's failure.

    The stream is drawn from while workers decode, no further ahead than they need: memory holds those samples, and
    keys and labels of a shard.
    """
    with closing(walk.tasks()) as tasks:
        decoded = pool.decode(tasks)
        for shard, items in itertools.groupby(decoded, key=lambda item: item[0].shard):
            chunks = _offered(shard, items, walk, reservoir)
            yield encode_shard(folder, plan_digest, shard, shard.shard, chunks, encoder, report)
            reservoir.tidy()
    if walk.failure is not None:
        raise walk.failure


def _offered(
    shard: OpenShard, items: Iterable[tuple[Drawn, DecodedChunk]], walk: Walk, reservoir: Reservoir
) -> Iterator[DecodedChunk]:
    """The decoded chunks of a shard, whose usable samples are offered to be kept; a failure in its midst is raised."""
    name, split = shard.shard.name, shard.shard.split
    with reservoir.of_shard(name):
        for drawn, chunk in items:
            for position, (key, content) in enumerate(zip(drawn.keys, drawn.contents, strict=True)):
                if position not in chunk.reasons:
                    reservoir.offer(split, key, drawn.start + position, name, content)
            yield chunk
        if walk.failure is not None and not shard.is_full:
            raise walk.failure
