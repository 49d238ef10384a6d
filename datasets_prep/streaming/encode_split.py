"""Makes the shards of a split of a stream in the order of its samples."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace

from datasets_prep.decode.chunks import DecodedChunk
from datasets_prep.decode.pool import DecodePool
from datasets_prep.encode.encoder import AnyEncoder
from datasets_prep.job.context import JobContext
from datasets_prep.job.local_engine import encode_shard
from datasets_prep.ledger.shard_records import ShardRecord
from datasets_prep.sources.core.stream_shards import PartialShard
from datasets_prep.streaming.reservoir import Reservoir
from datasets_prep.streaming.split_reader import SampleChunk, SplitReader


def encode_split(
    context: JobContext, reader: SplitReader, reservoir: Reservoir, pool: DecodePool, encoder: AnyEncoder
) -> Iterator[ShardRecord]:
    """Make the unfinished shards of a split; yields the record of each, then raises the reader's failure, if any.

    The stream is read while workers decode, no further ahead than they need, so that memory holds these samples and the
    keys and labels of one shard.
    """
    with closing(reader.tasks()) as tasks:
        decoded = pool.decode(tasks)
        for shard, items in itertools.groupby(decoded, key=lambda item: item[0].shard):
            chunks = _offered(shard, items, reader, reservoir)
            yield encode_shard(replace(context, source=shard), shard.shard, chunks, encoder)
            reservoir.remove_unneeded()
    if reader.failure is not None:
        raise reader.failure


def _offered(
    shard: PartialShard,
    items: Iterable[tuple[SampleChunk, DecodedChunk]],
    reader: SplitReader,
    reservoir: Reservoir,
) -> Iterator[DecodedChunk]:
    """Yield the decoded chunks of a shard and offer their usable samples to the reservoir.

    Raises the reader's failure if it ended the shard before the shard was full.
    """
    name, split = shard.shard.name, shard.shard.split
    with reservoir.of_shard(name):
        for samples, chunk in items:
            for position, (key, content) in enumerate(zip(samples.keys, samples.contents, strict=True)):
                if position not in chunk.reasons:
                    reservoir.offer(split, key, samples.start + position, name, content)
            yield chunk
        if reader.failure is not None and not shard.is_full:
            raise reader.failure
