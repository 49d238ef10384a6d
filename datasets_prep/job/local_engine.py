"""Makes shards on this machine: worker processes decode while this process encodes and writes.

The unit of work is one shard, from its source samples to a file and a record. Making it again gives the same bytes.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from datasets_prep.decode.chunks import DecodedChunk
from datasets_prep.decode.pool import DecodePool
from datasets_prep.decode.worker import load_code
from datasets_prep.encode.encoder import AnyEncoder, open_encoding
from datasets_prep.encode.sample_layout import label_spec, stored_labels
from datasets_prep.job.context import JobContext
from datasets_prep.job.progress import count_text
from datasets_prep.ledger.shard_records import ShardRecord, save_record
from datasets_prep.ledger.table import shard_rows
from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.samples.stored import Stored
from walloc_cdl.devices import choose_device
from walloc_cdl.latents import SampleLayout, ShardWriter


class LocalEngine:
    """Makes shards one after the other; the workers share the decoding of each shard, so small data sets are fast."""

    name = "local"

    def encode(self, context: JobContext, shards: Sequence[PlannedShard]) -> Generator[ShardRecord, None, None]:
        """See `Engine.encode`."""
        context.reporter.worker_status(count_text(context.workers, "worker"))
        device, batch = choose_device(context.config.device), context.config.batch
        encoding = open_encoding(context.codec, context.preparation, device, batch=batch)
        with DecodePool(context.workers, context.preparation, encoding.in_workers) as pool:
            if context.workers:
                # The end of the job needs the code in this process, too, which now mostly waits for the workers.
                arguments = context.preparation, encoding.in_workers
                threading.Thread(target=load_code, args=arguments, daemon=True).start()
            yield from encode_shards(context, shards, pool, encoding.encoder)


def encode_shards(
    context: JobContext, shards: Sequence[PlannedShard], pool: DecodePool, encoder: AnyEncoder
) -> Iterator[ShardRecord]:
    """Make these shards in order; the next shards are decoded while one is encoded."""
    decoded = pool.decode(_tasks(context, shards))
    for shard, chunks in itertools.groupby(decoded, key=lambda item: item[0]):
        yield encode_shard(context, shard, (chunk for _, chunk in chunks), encoder)


def _tasks(context: JobContext, shards: Sequence[PlannedShard]) -> Iterator[tuple[PlannedShard, list[Stored]]]:
    """Yield chunks of samples with their shard; no chunk spans two shards."""
    step = context.preparation.chunk_samples
    for shard in shards:
        for start in range(shard.start, shard.stop, step):
            stop = min(start + step, shard.stop)
            yield shard, [context.source.read(shard.split, index) for index in range(start, stop)]


def encode_shard(
    context: JobContext, shard: PlannedShard, chunks: Iterable[DecodedChunk], encoder: AnyEncoder
) -> ShardRecord:
    """Encode a shard from its decoded chunks, write the shard and its record, and report the samples.

    Raises `JobError` if the source is missing or cannot be read; then no file of the shard remains.
    """
    source = context.source
    reasons: dict[int, str] = {}
    hashes: list[str | None] = []
    source_bytes = 0
    pending: deque[int] = deque()  # indices of usable samples that have no codes yet
    sizes: deque[tuple[int, ...]] = deque()

    def usable() -> Iterator[np.ndarray | list[np.ndarray]]:
        nonlocal source_bytes
        for chunk in chunks:
            start = shard.start + len(hashes)
            context.read_failures.check(source, shard.split, start, chunk, context.config.unreadable)
            reasons.update({start + position: reason for position, reason in chunk.reasons.items()})
            pending.extend(start + position for position in range(len(chunk.hashes)) if position not in chunk.reasons)
            if layout.ragged:
                sizes.extend(signal.shape[1:] for signal in chunk.signals)
            hashes.extend(chunk.hashes)
            num_bytes = sum(chunk.num_bytes)
            source_bytes += num_bytes
            yield chunk.signals
            context.reporter.advance(len(chunk.hashes), len(chunk.reasons), num_bytes)

    layout = SampleLayout(encoder.codec.spec, encoder.latent_shape, label_spec(source), encoder.num_views)
    counts = layout.labels.zero_class_counts()
    with ShardWriter(
        context.folder, shard.name, layout=layout, split=shard.split, capacity=shard.num_samples
    ) as writer:
        for codes in encoder.encode(usable()):
            indices = [pending.popleft() for _ in codes]
            labels = stored_labels(source, shard.split, indices)
            if counts is not None:
                counts += layout.labels.class_counts(labels)
            keys = [source.key(shard.split, index) for index in indices]
            signal_sizes = np.array([sizes.popleft() for _ in codes], np.int32) if layout.ragged else None
            writer.append(codes, labels, keys, sizes=signal_sizes)
        entry, histogram = writer.finish()
    class_counts = None if counts is None else counts.tolist()
    record = ShardRecord(entry, histogram, class_counts, len(reasons), source_bytes)
    encoded = replace(shard, stop=shard.start + len(hashes))  # a stream may have ended before the shard was full
    save_record(context.work, context.plan_digest, record, shard_rows(source, encoded, reasons, hashes))
    return record
