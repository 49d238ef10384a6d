"""The end of a job: from written shards to a data set. The manifest comes last."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets_prep.encoding import Encoder, device_kind, full_precision
from datasets_prep.ledger import build_ledger, ledger_bytes, summarize
from datasets_prep.output import CODEC_FOLDER, LEDGER_NAME, remove_work
from datasets_prep.plan import Plan
from datasets_prep.records import ShardRecord
from datasets_prep.sources.base import Source
from datasets_prep.splits import seeded_order
from datasets_prep.workers import CHUNK_SAMPLES, DecodePool
from walloc_cdl import __version__
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.codec import Codec
from walloc_cdl.codec.fit_synthesis import fit_synthesis, num_synthesis_samples
from walloc_cdl.errors import JobError
from walloc_cdl.files import write_atomic
from walloc_cdl.latents import (
    FileEntry,
    Manifest,
    SplitSummary,
    write_manifest,
    write_provenance,
)
from walloc_cdl.synthesis import FILE_NAME as SYNTHESIS_NAME
from walloc_cdl.synthesis import synthesis_to_bytes

FLIP_SAMPLES = 32


@dataclass(frozen=True)
class Effort:
    """What this run of the job has cost, for the provenance."""

    started_s: float
    """Seconds since the epoch."""
    num_encoded: int
    """Samples that this run decoded; the others were done before."""


def finish(
    folder: Path,
    source: Source,
    plan: Plan,
    records: Sequence[ShardRecord],
    *,
    codec: Codec,
    encoder: Encoder,
    pool: DecodePool,
    effort: Effort,
) -> Manifest:
    """Write all but the shards, and remove the work folder; `records` in the order of the plan's shards.

    Raises `JobError` when no sample that training needs is usable.
    """
    _require_usable(source, plan, records)
    codec = copy.deepcopy(codec).cpu()
    has_synthesis = codec.spec.kind == "image"
    count = num_synthesis_samples(codec, encoder.latent_shape) if has_synthesis else FLIP_SAMPLES
    chunks = _decoded_again(source, plan, records, pool, count)
    ledger = build_ledger(source, plan, records)
    files = {f"{CODEC_FOLDER}/{name}": data for name, data in codec.files().items()}
    if has_synthesis and (bank := fit_synthesis(codec, [torch.from_numpy(chunk) for chunk in chunks])):
        files[f"{CODEC_FOLDER}/{SYNTHESIS_NAME}"] = synthesis_to_bytes(bank)
    files[LEDGER_NAME] = ledger_bytes(ledger)
    (folder / CODEC_FOLDER).mkdir(exist_ok=True)
    for name, data in sorted(files.items()):
        write_atomic(folder / name, data)
    manifest = Manifest(
        spec=codec.spec,
        latent_shape=encoder.latent_shape,
        preprocessing=plan.preprocessing,
        class_names=source.class_names,
        splits={split: _summary(source, split, plan, records) for split in source.split_names},
        shards=[record.entry for record in records],
        files={name: FileEntry(len(data), sha256_hex(data)) for name, data in sorted(files.items())},
        histograms={split: _histogram(codec, split, records) for split in source.split_names},
        source=plan.source,
        ledger=summarize(ledger),
    )
    write_provenance(folder, _provenance(plan, codec, encoder, chunks[0], effort))
    write_manifest(folder, manifest)
    remove_work(folder)
    return manifest


def usable_indices(split: str, plan: Plan, records: Sequence[ShardRecord]) -> np.ndarray:
    """int64: indices in the source's split of the samples that are stored, in order."""
    ranges = [
        np.setdiff1d(np.arange(shard.start, shard.stop), list(record.quarantined))
        for shard, record in zip(plan.shards, records, strict=True)
        if shard.split == split
    ]
    return np.concatenate(ranges).astype(np.int64) if ranges else np.empty(0, np.int64)


def _fit_split(source: Source) -> str:
    """The split that statistics and synthesis are taken from: `train`, or the first with samples."""
    filled = [split for split in source.split_names if source.num_samples(split)]
    return "train" if "train" in filled else filled[0]


def _noun(source: Source) -> str:
    return {"image": "images", "array": "arrays", "audio": "segments"}[source.kind]


def _require_usable(source: Source, plan: Plan, records: Sequence[ShardRecord]) -> None:
    split = _fit_split(source)
    if not len(usable_indices(split, plan, records)):
        reasons = [record.quarantined[min(record.quarantined)] for record in records if record.entry.split == split]
        raise JobError(
            f"none of the {source.num_samples(split)} {_noun(source)} of split {split!r} is usable "
            f"(the first: {reasons[0]}); check the source"
        )


def _decoded_again(
    source: Source, plan: Plan, records: Sequence[ShardRecord], pool: DecodePool, count: int
) -> list[np.ndarray]:
    """Prepared signals (n, C, …), in chunks, of a seeded choice of `count` samples, decoded once more."""
    split = _fit_split(source)
    usable = usable_indices(split, plan, records)
    order = seeded_order([source.key(split, int(index)) for index in usable], seed=0)
    chosen = np.sort(usable[order[:count]])
    tasks = (
        (None, [source.read(split, int(index)) for index in chosen[start : start + CHUNK_SAMPLES]])
        for start in range(0, len(chosen), CHUNK_SAMPLES)
    )
    chunks = [chunk.signals for _, chunk in pool.decode(tasks) if len(chunk.signals)]
    if not chunks:
        raise JobError(f"the {_noun(source)} of split {split!r} are gone since they were encoded; restore the source")
    return chunks


def _summary(source: Source, split: str, plan: Plan, records: Sequence[ShardRecord]) -> SplitSummary:
    usable = usable_indices(split, plan, records)
    if source.class_names is None:
        return SplitSummary(len(usable))
    labels = source.listing.splits[split].labels[usable]
    counts = np.bincount(labels[labels >= 0], minlength=len(source.class_names))
    return SplitSummary(len(usable), counts.tolist())


def _histogram(codec: Codec, split: str, records: Sequence[ShardRecord]) -> np.ndarray:
    start = np.zeros((codec.spec.latent_channels, 256), np.int64)
    return sum((record.histogram for record in records if record.entry.split == split), start)


def _provenance(plan: Plan, codec: Codec, encoder: Encoder, signals: np.ndarray, effort: Effort) -> dict[str, Any]:
    elapsed_s = time.time() - effort.started_s
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "codec": codec.name,
        "decoder_id": codec.decoder_id(),
        "device": device_kind(encoder.device),
        "precision": "fp32",
        "flip_rate": _flip_rate(codec, encoder, signals[:FLIP_SAMPLES]),
        "engine": {"name": "local", **plan.engine},
        "versions": {"walloc-cdl": __version__, "python": platform.python_version(), **plan.engine["versions"]},
        "platform": f"{platform.system()} {platform.machine()}",
        "elapsed_s": round(elapsed_s, 3),
        "num_encoded": effort.num_encoded,
    }


def _flip_rate(codec: Codec, encoder: Encoder, signals: np.ndarray) -> dict[str, float | int]:
    """Share of codes that differ when the same samples are encoded one by one on the CPU."""
    codes = np.concatenate(list(encoder.encode([signals])))
    with torch.inference_mode(), full_precision():
        single = np.concatenate([codec.encode(torch.from_numpy(sample[None])).numpy() for sample in signals])
    return {"value": float(np.mean(codes != single)), "num_codes": int(codes.size)}
