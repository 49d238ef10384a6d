"""The unit of work: one shard, from its source samples to a file and a record. Doing it again gives the same bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datasets_prep.decode.chunks import DecodedChunk
from datasets_prep.encode.encoder import AnyEncoder
from datasets_prep.encode.sample_layout import label_spec, stored_labels
from datasets_prep.ledger.shard_records import ShardRecord, save_record
from datasets_prep.ledger.table import shard_rows
from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.sources.core.source import Source
from walloc_cdl.errors import JobError
from walloc_cdl.latents import WORK_NAME, SampleLayout, ShardWriter

GONE = "no such file"
"""The reason of a file that has vanished; when the whole source has, that is no reason to quarantine it."""


@dataclass(frozen=True)
class Done:
    """Some samples that need no more work."""

    num_samples: int
    num_quarantined: int
    source_bytes: int


def encode_shard(
    folder: Path,
    plan_digest: str,
    source: Source,
    shard: PlannedShard,
    chunks: Iterable[DecodedChunk],
    encoder: AnyEncoder,
    report: Callable[[Done], None],
) -> ShardRecord:
    """Encode one shard's decoded samples as they come, write it into `folder` and its record into the work folder.

    Raises `JobError` when the source has vanished, and leaves nothing of the shard then.
    """
    reasons: dict[int, str] = {}
    hashes: list[str | None] = []
    source_bytes = 0
    ready: deque[int] = deque()  # indices of usable samples that have no codes yet
    sizes: deque[tuple[int, ...]] = deque()

    def usable() -> Iterator[np.ndarray | list[np.ndarray]]:
        nonlocal source_bytes
        for chunk in chunks:
            if GONE in chunk.reasons.values() and (gone := source.absence()):
                raise JobError(f"{gone} has vanished; bring it back and run the same again to go on")
            start = shard.start + len(hashes)
            reasons.update({start + position: reason for position, reason in chunk.reasons.items()})
            ready.extend(start + place for place in range(len(chunk.hashes)) if place not in chunk.reasons)
            if layout.ragged:
                sizes.extend(signal.shape[1:] for signal in chunk.signals)
            hashes.extend(chunk.hashes)
            num_bytes = sum(chunk.num_bytes)
            source_bytes += num_bytes
            yield chunk.signals
            report(Done(len(chunk.hashes), len(chunk.reasons), num_bytes))

    layout = SampleLayout(encoder.codec.spec, encoder.latent_shape, label_spec(source), encoder.num_views)
    counts = layout.labels.zero_class_counts()
    with ShardWriter(folder, shard.name, layout=layout, split=shard.split, capacity=shard.num_samples) as writer:
        for codes in encoder.encode(usable()):
            indices = [ready.popleft() for _ in codes]
            labels = stored_labels(source, shard.split, indices)
            if counts is not None:
                counts += layout.labels.class_counts(labels)
            keys = [source.key(shard.split, index) for index in indices]
            own = np.array([sizes.popleft() for _ in codes], np.int32) if layout.ragged else None
            writer.append(codes, labels, keys, sizes=own)
        entry, histogram = writer.finish()
    class_counts = None if counts is None else counts.tolist()
    record = ShardRecord(entry, histogram, class_counts, len(reasons), source_bytes)
    seen = replace(shard, stop=shard.start + len(hashes))  # a stream may have ended before the shard was full
    save_record(folder / WORK_NAME, plan_digest, record, shard_rows(source, seen, reasons, hashes))
    return record
