"""The unit of work: one shard, from its source samples to a file and a record. Doing it again gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets_prep.decoding import DecodedChunk
from datasets_prep.encoding import Encoder
from datasets_prep.ledger import shard_rows
from datasets_prep.plan import PlannedShard
from datasets_prep.records import ShardRecord, save_record
from datasets_prep.sources.base import Source
from walloc_cdl.errors import JobError
from walloc_cdl.latents import WORK_NAME, code_histogram, write_shard

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
    encoder: Encoder,
    report: Callable[[Done], None],
) -> ShardRecord:
    """Encode one shard's decoded samples as they come, write it into `folder` and its record into the work folder.

    Raises `JobError` when the source has vanished, and leaves nothing of the shard then.
    """
    reasons: dict[int, str] = {}
    hashes: list[str | None] = []
    source_bytes = 0

    def usable() -> Iterator[np.ndarray]:
        nonlocal source_bytes
        for chunk in chunks:
            if GONE in chunk.reasons.values() and (gone := source.absence()):
                raise JobError(f"{gone} has vanished; bring it back and run the same again to go on")
            start = shard.start + len(hashes)
            reasons.update({start + position: reason for position, reason in chunk.reasons.items()})
            hashes.extend(chunk.hashes)
            num_bytes = sum(chunk.num_bytes)
            source_bytes += num_bytes
            yield chunk.signals
            report(Done(len(chunk.hashes), len(chunk.reasons), num_bytes))

    spec = encoder.codec.spec
    codes = np.empty((shard.num_samples, *encoder.latent_shape), np.uint8)
    filled = 0
    for batch in encoder.encode(usable()):
        codes[filled : filled + len(batch)] = batch
        filled += len(batch)
    indices = [index for index in range(shard.start, shard.stop) if index not in reasons]
    labels = source.listing.splits[shard.split].labels[indices] if source.class_names is not None else None
    entry = write_shard(
        folder,
        shard.name,
        spec=spec,
        split=shard.split,
        codes=codes[:filled],
        labels=labels,
        keys=[source.key(shard.split, index) for index in indices],
    )
    record = ShardRecord(
        entry,
        code_histogram(codes[:filled], spec.latent_channels),
        _class_counts(labels, source.class_names),
        len(reasons),
        source_bytes,
    )
    save_record(folder / WORK_NAME, plan_digest, record, shard_rows(source, shard, reasons, hashes))
    return record


def _class_counts(labels: np.ndarray | None, class_names: list[str] | None) -> list[int] | None:
    if labels is None or class_names is None:
        return None
    return np.bincount(labels[labels >= 0], minlength=len(class_names)).tolist()
