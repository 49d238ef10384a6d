"""Data sets of any layout, with ledger, codec file and provenance, as a finished job leaves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from datasets_prep.ledger.table import SCHEMA, write_ledger
from tests.support.any_samples import draw_any, write_levels
from walloc_cdl.canonical import sha256_file, sha256_hex
from walloc_cdl.latents import (
    FileEntry,
    Manifest,
    SampleLayout,
    SplitSummary,
    load_manifest,
    open_shard,
    write_manifest,
    write_provenance,
    write_shard,
)
from walloc_cdl.latents.statistics import samples_histogram

CODEC = b'{"kind":"none at all"}'


@dataclass
class Sample:
    """One sample as it is stored."""

    codes: np.ndarray
    label: Any
    size: Any
    content: str

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Sample)
        mine, theirs = (self.codes, self.label, self.size), (other.codes, other.label, other.size)
        return all(
            np.shape(a) == np.shape(b) and np.asarray(a).tobytes() == np.asarray(b).tobytes()
            for a, b in zip(mine, theirs, strict=True)
            if a is not None or b is not None
        )


def write_any_set(
    folder: Path,
    layout: SampleLayout,
    splits: Mapping[str, Sequence[int]],
    *,
    seed: int = 0,
    keys: Mapping[str, Sequence[str]] | None = None,
    class_names: list[str] | None = None,
    quarantined: Sequence[str] = ("broken.jpg",),
) -> None:
    """Shards of the given numbers of samples for each split; each split also has the `quarantined` ones."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    names = [f"name {number}" for number in range(layout.labels.num_columns)] or None
    entries, summaries, histograms, parts = [], {}, {}, []
    for split, sizes in splits.items():
        drawn = draw_any(rng, layout, sum(sizes))
        if keys is not None:
            drawn.keys = list(keys[split])
        start, rows = 0, []
        for number, size in enumerate(sizes):
            name = f"{split}-{number:05d}.safetensors"
            arguments = drawn.rows(start, start + size)
            entries.append(
                write_shard(folder, name, spec=layout.spec, split=split, layout=layout, **{"labels": None, **arguments})
            )
            for row, key in enumerate(arguments["keys"]):
                stored = {"shard": name, "row": row, "sha256": sha256_hex(f"{seed} {key}".encode())}
                rows.append({"split": split, "key": key, "label": 1, "num_bytes": 100, **stored})
            start += size
        for key in quarantined:
            rows.append({"split": split, "key": key, "label": -1, "num_bytes": 3, "reason": "cannot be decoded"})
        parts.append(pa.Table.from_pylist(rows, schema=SCHEMA))
        counts = layout.labels.class_counts(drawn.labels)
        summaries[split] = SplitSummary(sum(sizes), None if counts is None else counts.tolist())
        histograms[split] = samples_histogram(drawn.codes, layout)
    (folder / "codec").mkdir(exist_ok=True)
    (folder / "codec/config.json").write_bytes(CODEC)
    summary = write_ledger(folder / "ledger.parquet", parts, [], SCHEMA)
    write_provenance(folder, {"created": "long ago"})
    ledger = folder / "ledger.parquet"
    manifest = Manifest(
        spec=layout.spec,
        latent_shape=layout.latent_shape,
        splits=summaries,
        shards=entries,
        files={
            "codec/config.json": FileEntry(len(CODEC), sha256_hex(CODEC)),
            "ledger.parquet": FileEntry(ledger.stat().st_size, sha256_file(ledger)),
            **write_levels(folder, layout),
        },
        histograms=histograms,
        label_kind=layout.labels.kind,
        class_names=class_names or (names if layout.labels.kind in ("class", "multilabel") else None),
        target_names=names if layout.labels.kind == "regression" else None,
        views=[f"view {number}" for number in range(layout.num_views)] if layout.num_views > 1 else None,
        preprocessing={"size": 16, "shard_samples": 3},
        source={"name": "drawn", "fingerprint": str(seed)},
        ledger={**summary.to_json(), "num_duplicates_across_splits": 0, "num_duplicates_of_other_label": 0},
    )
    write_manifest(folder, manifest)


def read_samples(folder: Path, split: str) -> dict[str, Sample]:
    """All samples of a split, by key, in order."""
    manifest, found = load_manifest(folder), {}
    for entry in manifest.shards_of(split):
        shard = open_shard(folder / entry.name, entry, manifest.layout)
        for row, key in enumerate(shard.keys(range(len(shard)))):
            found[key] = Sample(
                shard.sample_codes(row).copy(),
                None if shard.labels is None else shard.labels[row].copy(),
                None if shard.sizes is None else shard.sizes[row].copy(),
                key,
            )
    return found
