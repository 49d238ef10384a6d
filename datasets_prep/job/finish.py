"""Completes a job: turns its shards into a data set. The manifest is written last."""

from __future__ import annotations

import copy
import heapq
import platform
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from datasets_prep.decode.worker import decode_chunk
from datasets_prep.encode.devices import device_kind
from datasets_prep.encode.encoder import Encoder
from datasets_prep.encode.flip_rate import flip_rate
from datasets_prep.encode.sample_layout import label_names, label_spec, sample_layout
from datasets_prep.job.context import JobContext
from datasets_prep.job.drop_duplicates import drop_duplicate_samples
from datasets_prep.job.output import CODEC_FOLDER, OWN
from datasets_prep.job.read_failures import QUARANTINE, require_source
from datasets_prep.ledger.duplicates import HASH_COLUMNS, DuplicateFinder, write_marked_ledger
from datasets_prep.ledger.shard_records import ShardRecord, load_rows, require_fitting, require_record
from datasets_prep.ledger.table import ledger_schema
from datasets_prep.samples.key_hash import key_hash
from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources.core.source import Source
from walloc_cdl import __version__
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.codec import Codec
from walloc_cdl.codec.fit.operators import fit_operators
from walloc_cdl.codec.fit.synthesis import fit_synthesis, num_synthesis_samples
from walloc_cdl.devices import choose_device
from walloc_cdl.errors import JobError
from walloc_cdl.files import make_folder, write_atomic
from walloc_cdl.latents import (
    LEDGER_NAME,
    FileEntry,
    Manifest,
    ShardEntry,
    SplitSummary,
    write_manifest,
    write_provenance,
)
from walloc_cdl.linear.operators import FILE_PATH as OPERATORS_PATH
from walloc_cdl.linear.operators import operators_to_bytes
from walloc_cdl.linear.synthesis import FILE_NAME as SYNTHESIS_NAME
from walloc_cdl.linear.synthesis import synthesis_to_bytes
from walloc_cdl.machine import cpu_count
from walloc_cdl.planes.levels import FILE_PATH as LEVELS_PATH

FLIP_SAMPLES = 32
DECODING_THREADS = 4
"""Maximum number of threads that decode samples again: few, since nothing limits the memory that each may need."""


def finish(context: JobContext) -> Manifest:
    """Write all files except the shards; all shards of the plan must have records.

    Raises `JobError` if no sample of the split that training uses is usable.
    """
    folder, plan, source, preparation = context.folder, context.plan, context.source, context.preparation

    def parts(columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        for shard in plan.shards:
            yield load_rows(context.work, shard.name, columns, num_rows=shard.num_samples)

    def hashes() -> Iterator[pa.Table]:
        return parts(HASH_COLUMNS)

    finder = DuplicateFinder(hashes, plan.num_samples)
    if context.config.drop_duplicates and finder.has_candidates:
        drop_duplicate_samples(context, finder)
        finder = DuplicateFinder(hashes, plan.num_samples)
    totals = _Totals(context)
    codec = copy.deepcopy(context.codec).cpu()
    device, batch = choose_device(context.config.device), context.config.batch
    encoder = Encoder(codec, device, batch=batch, signal_shape=preparation.shape)
    layout = sample_layout(source, codec, preparation)
    chunks = _calibration_signals(context, num_calibration_samples(codec, preparation))
    files = {f"{CODEC_FOLDER}/{name}": data for name, data in codec.files().items()}
    fits = has_synthesis(codec, preparation)
    images = [torch.from_numpy(chunk) for chunk in chunks] if fits else []
    if fits and (bank := fit_synthesis(codec, images)):
        files[f"{CODEC_FOLDER}/{SYNTHESIS_NAME}"] = synthesis_to_bytes(bank)
    if fits and (operators := fit_operators(codec, images)):
        files[OPERATORS_PATH] = operators_to_bytes(operators)
    if (levels := codec.level_tables) is not None:
        files[LEVELS_PATH] = levels.to_bytes()
    make_folder(folder / CODEC_FOLDER)
    for name, data in sorted(files.items()):
        write_atomic(folder / name, data)
    entries = {name: FileEntry(len(data), sha256_hex(data)) for name, data in files.items()}
    schema = ledger_schema(source)
    entries[LEDGER_NAME], counts = write_marked_ledger(folder / LEDGER_NAME, parts(), finder, source.strays, schema)
    manifest = Manifest(
        spec=codec.spec,
        latent_shape=layout.latent_shape,
        preprocessing=plan.preprocessing,
        label_kind=layout.labels.kind,
        **label_names(source),
        views=list(preparation.view_names) or None,
        splits={split: totals.summary(split) for split in source.split_names},
        shards=totals.entries,
        files=dict(sorted(entries.items())),
        histograms={split: totals.histograms[split] for split in source.split_names},
        source=plan.source,
        ledger=counts,
    )
    write_provenance(folder, _provenance(context, codec, encoder, _equally_sized(chunks)))
    write_manifest(folder, manifest)
    return manifest


def has_synthesis(codec: Codec, preparation: Preparation) -> bool:
    """Whether a linear synthesis and operators of flips are fitted, which requires images of one size."""
    return codec.spec.kind == "image" and not preparation.ragged


def num_calibration_samples(codec: Codec, preparation: Preparation) -> int:
    """Return the maximum number of samples that `finish` decodes again, for the synthesis and the flip rate."""
    if not has_synthesis(codec, preparation):
        return FLIP_SAMPLES
    return num_synthesis_samples(codec, codec.latent_shape(preparation.shape))


@dataclass
class _Totals:
    """Sums over the records of all shards."""

    context: JobContext
    entries: list[ShardEntry] = field(default_factory=list)
    histograms: dict[str, np.ndarray] = field(default_factory=dict)
    class_counts: dict[str, np.ndarray | None] = field(default_factory=dict)
    num_samples: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        source, channels = self.context.source, self.context.codec.spec.latent_channels
        for split in source.split_names:
            self.histograms[split] = np.zeros((channels, 256), np.int64)
            self.class_counts[split] = label_spec(source).zero_class_counts()
            self.num_samples[split] = 0
        for shard in self.context.plan.shards:
            record = require_record(self.context.folder, self.context.work, shard, self.context.plan_digest)
            self._add(shard.split, record)
        _require_usable(self.context, self.num_samples)

    def _add(self, split: str, record: ShardRecord) -> None:
        counts = self.class_counts[split]
        require_fitting(record, len(self.histograms[split]), None if counts is None else len(counts))
        self.entries.append(record.entry)
        self.histograms[split] += record.histogram
        self.num_samples[split] += record.entry.num_samples
        if counts is not None and record.class_counts is not None:
            counts += np.array(record.class_counts, np.int64)

    def summary(self, split: str) -> SplitSummary:
        """Return the counts of one split."""
        counts = self.class_counts[split]
        return SplitSummary(self.num_samples[split], None if counts is None else counts.tolist())


def _fit_split(source: Source) -> str:
    """Return the split for statistics and synthesis: `train`, or the first split with samples."""
    nonempty = [split for split in source.split_names if source.num_samples(split)]
    return "train" if "train" in nonempty else nonempty[0]


def _unit_name(source: Source) -> str:
    return {"image": "images", "array": "arrays", "audio": "segments"}[source.kind]


def _require_usable(context: JobContext, num_samples: dict[str, int]) -> None:
    source, split = context.source, _fit_split(context.source)
    if num_samples[split]:
        return
    shard = next(shard for shard in context.plan.shards if shard.split == split and shard.num_samples)
    reason = load_rows(context.work, shard.name)["reason"][0].as_py()
    raise JobError(
        f"none of the {source.num_samples(split)} {_unit_name(source)} of split {split!r} is usable "
        f"(the first: {reason}); check the source"
    )


def _calibration_signals(context: JobContext, count: int) -> list[np.ndarray]:
    """Return chunks (n, C, …) of evaluation signals of the `count` samples with the smallest key hashes.

    They are decoded again in this process, since workers would take longer to start. Raises `JobError` if one cannot
    be, since the others would give another synthesis; with `unreadable` "quarantine", the others are used.
    """
    source, preparation = context.source, context.preparation
    split, step = _fit_split(source), preparation.chunk_samples
    indices = sorted(index for _, index in heapq.nsmallest(count, _hashed_samples(context, split)))
    tasks = (
        [source.read(split, index) for index in indices[start : start + step]] for start in range(0, len(indices), step)
    )
    with ThreadPoolExecutor(min(DECODING_THREADS, cpu_count())) as threads:
        chunks: list[np.ndarray] = []
        done = num_lost = 0
        for chunk in threads.map(lambda samples: decode_chunk(samples, preparation), tasks):
            if chunk.reasons:
                _report_lost(context, split, indices[done + min(chunk.reasons)], chunk.reasons[min(chunk.reasons)])
            if len(chunk.signals):
                chunks.append(preparation.evaluation_signals(chunk.signals))
            done, num_lost = done + len(chunk.hashes), num_lost + len(chunk.reasons)
    if num_lost and chunks:
        context.reporter.note(
            f"WARNING: {num_lost} of {len(indices)} samples for synthesis and flip rate can no longer be read; the "
            "others are used"
        )
    if not chunks:
        raise JobError(
            f"the {_unit_name(source)} of split {split!r} can no longer be read; restore the source and run the same "
            "command again to continue"
        )
    return chunks


def _report_lost(context: JobContext, split: str, index: int, reason: str) -> None:
    """Raise `JobError` for a stored sample that cannot be decoded again, unless the job does without such samples."""
    require_source(context.source)
    if context.config.unreadable != QUARANTINE:
        raise JobError(
            f"{context.folder}: sample {context.source.key(split, index)!r} of split {split!r} was encoded, but cannot "
            f"be read again ({reason}) for the end of the job; restore it and run the same command again to continue, "
            "or add --unreadable quarantine to use the other samples"
        )


def _equally_sized(chunks: list[np.ndarray]) -> np.ndarray:
    """Return the signals that have the size of the first signal, at most `FLIP_SAMPLES` of them."""
    return np.concatenate([chunk for chunk in chunks[:FLIP_SAMPLES] if chunk.shape[1:] == chunks[0].shape[1:]])[
        :FLIP_SAMPLES
    ]


def _hashed_samples(context: JobContext, split: str) -> Iterator[tuple[str, int]]:
    """Yield the key hash and the index of every stored sample of the split that can be read."""
    for shard in context.plan.shards:
        if shard.split == split:
            rows = load_rows(context.work, shard.name, ["key", "row"], num_rows=shard.num_samples).to_pydict()
            for index, (key, row) in enumerate(zip(rows["key"], rows["row"], strict=True), start=shard.start):
                if row is not None and context.source.can_read(split, index):
                    yield key_hash(key), index


def _provenance(context: JobContext, codec: Codec, encoder: Encoder, signals: np.ndarray) -> dict[str, Any]:
    engine, elapsed_s = context.plan.engine, time.time() - context.started_s
    own = getattr(codec.config, "fit", {}).get(OWN)
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "codec": codec.name,
        **({} if own is None else {"own_codec": own}),
        "decoder_id": codec.decoder_id(),
        "device": device_kind(encoder.device),
        "precision": "fp32",
        "flip_rate": flip_rate(codec, encoder, signals),
        "engine": {"name": context.config.engine, **engine},
        "versions": {"walloc-cdl": __version__, "python": platform.python_version(), **engine["versions"]},
        "platform": f"{platform.system()} {platform.machine()}",
        "elapsed_s": round(elapsed_s, 3),
        "num_encoded": context.reporter.num_encoded,
        "drift": [list(difference) for difference in context.drift],
    }
