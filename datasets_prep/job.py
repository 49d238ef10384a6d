"""`prepare`: encode a source once. The unit of work is one shard, and the same call again goes on with the rest."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets_prep.config import PrepareConfig
from datasets_prep.encoding import Encoder, choose_device, device_kind
from datasets_prep.finish import Effort, finish
from datasets_prep.output import open_output
from datasets_prep.plan import Plan, PlannedShard, make_plan
from datasets_prep.records import ShardRecord, load_records, save_record
from datasets_prep.signals.audio import AudioPreparation
from datasets_prep.signals.base import Preparation, Stored
from datasets_prep.signals.choose import choose_preparation
from datasets_prep.sources.audiofolder import SegmentedSource
from datasets_prep.sources.base import Source
from datasets_prep.splits import limit
from datasets_prep.workers import CHUNK_SAMPLES, DecodedChunk, DecodePool, cpu_count
from walloc_cdl.codec import Codec
from walloc_cdl.latents import WORK_NAME, Manifest, code_histogram, write_shard

FEW_SAMPLES = 128
"""Up to here starting workers takes longer than decoding."""


@dataclass(frozen=True)
class Progress:
    """Where a job stands."""

    done: int
    """Source samples that need no more work; in a resumed job those of earlier runs count."""
    total: int
    quarantined: int
    note: str = ""
    """A sentence worth showing, on a change of phase."""


def prepare(
    source: Source,
    codec: Codec,
    out: str | os.PathLike[str],
    config: PrepareConfig | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> Manifest:
    """Encode `source` into the data set folder `out`, or go on with doing so; returns the data set's manifest.

    A finished data set of the same plan is left as it is. Samples that cannot be used go to the ledger
    with the reason. `progress` is called every few samples, and an exception that it raises stops the
    job, which can be resumed as after any other interruption.

    Raises `CallError` for a call that cannot work (kinds, sizes, channels, output folder), before anything is
    written, and `JobError` when a worker dies or no sample is usable.
    """
    started_s = time.time()
    config = config or PrepareConfig()
    folder = Path(out)
    device = choose_device(config.device)
    preparation = choose_preparation(source, codec, config)
    source = _samples(source, preparation, config)
    plan = make_plan(
        source,
        codec,
        preparation,
        shard_samples=config.shard_samples,
        device=device_kind(device),
        batch=config.batch,
    )
    reporter = _Reporter(plan.num_samples, progress)
    manifest = open_output(folder, plan, restart=config.restart)
    if manifest is not None:
        reporter.advance(plan.num_samples, note=f"{folder} is finished already; nothing to do")
        return manifest
    records = load_records(folder, folder / WORK_NAME, plan)
    reporter.resume(plan, records)
    pending = [shard for shard in plan.shards if shard.name not in records]
    num_pending = sum(shard.num_samples for shard in pending)
    workers = config.workers if config.workers is not None else cpu_count() if num_pending > FEW_SAMPLES else 0
    encoder = Encoder(codec, device, batch=config.batch, signal_shape=preparation.shape)
    with DecodePool(workers, preparation) as pool:
        decoded = pool.decode(_tasks(source, pending))
        for shard, chunks in itertools.groupby(decoded, key=lambda item: item[0][0]):
            record = _encode_shard(folder, source, shard, chunks, encoder, reporter)
            save_record(folder / WORK_NAME, plan, record)
            records[shard.name] = record
        synthesis = "fitting the linear synthesis, " if codec.spec.kind == "image" else ""
        reporter.advance(0, note=f"{synthesis}writing ledger and manifest")
        in_order = [records[shard.name] for shard in plan.shards]
        effort = Effort(started_s, num_pending)
        return finish(folder, source, plan, in_order, codec=codec, encoder=encoder, pool=pool, effort=effort)


def _samples(source: Source, preparation: Preparation, config: PrepareConfig) -> Source:
    """The source whose samples are stored: clips cut into segments, and no more than the limit."""
    if isinstance(preparation, AudioPreparation):
        source = SegmentedSource(source, preparation)
    return source if config.limit is None else limit(source, config.limit)


class _Reporter:
    """Adds up what `Progress` says."""

    def __init__(self, total: int, callback: Callable[[Progress], None] | None) -> None:
        self.done = 0
        self.total = total
        self.quarantined = 0
        self._callback = callback

    def advance(self, done: int, quarantined: int = 0, note: str = "") -> None:
        self.done += done
        self.quarantined += quarantined
        if self._callback is not None:
            self._callback(Progress(self.done, self.total, self.quarantined, note))

    def resume(self, plan: Plan, records: dict[str, ShardRecord]) -> None:
        if records:
            done = sum(shard.num_samples for shard in plan.shards if shard.name in records)
            quarantined = sum(len(record.quarantined) for record in records.values())
            note = f"resumed: {len(records)} of {len(plan.shards)} shards are done"
            self.advance(done, quarantined, note)


_Tag = tuple[PlannedShard, int]


def _tasks(source: Source, shards: list[PlannedShard]) -> Iterator[tuple[_Tag, list[Stored]]]:
    """Chunks of samples, none across two shards, tagged with the shard and the index of the first."""
    for shard in shards:
        for start in range(shard.start, shard.stop, CHUNK_SAMPLES):
            stop = min(start + CHUNK_SAMPLES, shard.stop)
            yield (shard, start), [source.read(shard.split, index) for index in range(start, stop)]


def _encode_shard(
    folder: Path,
    source: Source,
    shard: PlannedShard,
    chunks: Iterable[tuple[_Tag, DecodedChunk]],
    encoder: Encoder,
    reporter: _Reporter,
) -> ShardRecord:
    """Encode one shard's chunks as they come and write it."""
    quarantined: dict[int, str] = {}

    def usable() -> Iterator[np.ndarray]:
        for (_, start), chunk in chunks:
            quarantined.update({start + position: reason for position, reason in chunk.reasons.items()})
            yield chunk.signals
            reporter.advance(len(chunk.signals) + len(chunk.reasons), len(chunk.reasons))

    spec = encoder.codec.spec
    codes = np.empty((shard.num_samples, *encoder.latent_shape), np.uint8)
    filled = 0
    for batch in encoder.encode(usable()):
        codes[filled : filled + len(batch)] = batch
        filled += len(batch)
    indices = [index for index in range(shard.start, shard.stop) if index not in quarantined]
    entry = write_shard(
        folder,
        shard.name,
        spec=spec,
        split=shard.split,
        codes=codes[:filled],
        labels=source.listing.splits[shard.split].labels[indices] if source.class_names is not None else None,
        keys=[source.key(shard.split, index) for index in indices],
    )
    return ShardRecord(entry, quarantined, code_histogram(codes[:filled], spec.latent_channels))
