"""`cdl split`: divides one split into several, or makes a data set of one split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets_prep.folders.derived_folder import copy_files, derive
from datasets_prep.ledger.rewrite import ledger_parts
from datasets_prep.upkeep.assignment import assign_groups, assign_stratified, seeded_hash
from datasets_prep.upkeep.derive import OMITTED, Derivation, InputDataSet, find_derived
from datasets_prep.upkeep.edit import editing, note_edit
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.errors import CallError, unknown_name
from walloc_cdl.fields import is_plain_path
from walloc_cdl.latents import (
    LEDGER_NAME,
    Manifest,
    ShardEntry,
    load_manifest,
    manifest_bytes,
    open_shard,
    write_manifest,
)

LABEL = "label"

OnShard = Callable[[int, int], object]


@dataclass(frozen=True)
class SplitConfig:
    """Options for dividing a split."""

    shares: Mapping[str, float]
    """Maps each new split to its share of the samples; the shares add up to 1."""
    split: str | None = None
    """The split to divide; None for the only one. Other splits do not change."""
    by: str = LABEL
    """`label`: divide each class by the shares, if labels are class numbers. Any other name is a column of the ledger:
    samples with the same value stay together; `sha256` keeps equal content together."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, share in self.shares.items():
            if not is_plain_path(name) or "/" in name:
                raise CallError(f"split name {name!r}; expected letters, digits, '_', '.' and '-'")
            if not 0 < share < 1:
                raise CallError(f"share of split {name!r} is {share:g}; expected a number above 0 and below 1")
        if abs((total := sum(self.shares.values())) - 1) > 1e-6:
            shares = ", ".join(map(str, self.shares.values()))
            raise CallError(f"the shares {shares} add up to {total:g}, expected 1; change a share")


def split_in_place(folder: Path, config: SplitConfig, *, on_shard: OnShard | None = None) -> Manifest:
    """Divide one split of a data set, atomically; the same call again completes an interrupted one.

    Temporarily needs disk space for a second copy of the shards. Raises `CallError` for an unknown split or column,
    and for a new name that another split has.
    """
    settings = {"by": config.by, "seed": config.seed, "shares": dict(config.shares)}
    with editing(folder) as edit:
        before = edit.manifest.source.get("split")
        if isinstance(before, dict) and before == {**settings, "of": config.split or before.get("of")}:
            return edit.manifest
        divided = _split_to_divide(folder, edit.manifest, config)
        derivation = _divide(folder, edit.manifest, config, divided)
        source = {**edit.manifest.source, "split": {**settings, "of": divided}}
        manifest = replace(derivation, manifest=replace(edit.manifest, source=source)).write(edit.stage, on_shard)
        edit.note("split")
        edit.commit(manifest)
    return manifest


def take_split(folder: Path, split: str, out: Path, *, on_shard: OnShard | None = None) -> Manifest:
    """Make the data set `out` of one split; the same call again resumes an interrupted one.

    Raises `CallError` for an unknown split, and for an `out` that holds anything else or that another process works on.
    """
    manifest = load_manifest(folder)
    if split not in manifest.splits:
        raise unknown_name("split", split, manifest.splits, f"{folder} has {', '.join(manifest.splits)}")
    source = {**manifest.source, "only": split, "of": sha256_hex(manifest_bytes(manifest))}
    return derive(
        out,
        {"job": "split", "source": source},
        lambda: find_derived(out, source),
        lambda: _write_split(folder, replace(manifest, source=source), split, out, on_shard),
    )


def _write_split(folder: Path, described: Manifest, split: str, out: Path, on_shard: OnShard | None) -> Manifest:
    """Write the data set of one split of `folder`; `described` is the manifest of `folder` with the new source."""

    def assign(number: int, entry: ShardEntry) -> np.ndarray:
        return np.full(entry.num_samples, 0 if entry.split == split else OMITTED, np.int64)

    unstored = {name: None for name in (None, *described.splits) if name != split}
    derived = Derivation([InputDataSet(folder, described)], described, [split], assign, unstored).write(out, on_shard)
    copy_files(folder, out, {name: entry for name, entry in derived.files.items() if name != LEDGER_NAME})
    note_edit(folder, out, "split")
    write_manifest(out, derived)
    return derived


def _split_to_divide(folder: Path, manifest: Manifest, config: SplitConfig) -> str:
    if config.split is None and len(manifest.splits) != 1:
        raise CallError(f"{folder} has the splits {', '.join(manifest.splits)}; name the one to divide with --split")
    split = config.split or next(iter(manifest.splits))
    if split not in manifest.splits:
        raise unknown_name("split", split, manifest.splits, f"{folder} has {', '.join(manifest.splits)}")
    if taken := [name for name in config.shares if name in manifest.splits and name != split]:
        raise CallError(f"{folder} already has a split {taken[0]!r}; give the new one another name")
    return split


def _divide(folder: Path, manifest: Manifest, config: SplitConfig, divided: str) -> Derivation:
    """Assign the samples of a split to new splits; takes 16 bytes of memory for each sample."""
    others = [name for name in manifest.splits if name != divided]
    splits = [*config.shares, *others]
    entries = manifest.shards_of(divided)
    begins = np.cumsum([0, *(entry.num_samples for entry in entries)])
    starts = {entry.name: int(begin) for entry, begin in zip(entries, begins[:-1], strict=True)}
    hashes, labels = _hashes_and_labels(folder, manifest, entries, config)
    if config.by == LABEL:
        numbers = assign_stratified(hashes, labels, list(config.shares.values()))
    else:
        groups = _groups(folder, manifest, config, starts, hashes)
        numbers = assign_groups(groups, groups, labels, list(config.shares.values()))
    if empty := [name for number, name in enumerate(config.shares) if not (numbers == number).any()]:
        raise CallError(f"split {empty[0]!r} would be empty; choose another share, or use more samples")

    def assign(number: int, entry: ShardEntry) -> np.ndarray:
        if entry.split != divided:
            return np.full(entry.num_samples, splits.index(entry.split), np.int64)
        return numbers[starts[entry.name] : starts[entry.name] + entry.num_samples]

    return Derivation([InputDataSet(folder, manifest)], manifest, splits, assign, {divided: splits[0]})


def _hashes_and_labels(
    folder: Path, manifest: Manifest, entries: list[ShardEntry], config: SplitConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Return seeded hashes of the keys, uint64 (N,), and class numbers, int64 (N,), or 0 for other kinds of labels."""
    hashes = [np.empty(0, np.uint64)]
    labels = [np.empty(0, np.int64)]
    for entry in entries:
        shard = open_shard(folder / entry.name, entry, manifest.layout)
        keys = shard.keys(range(len(shard)))
        hashes.append(np.fromiter((seeded_hash(config.seed, key) for key in keys), np.uint64, len(keys)))
        is_class = manifest.label_kind == "class" and shard.labels is not None
        labels.append(np.array(shard.labels) if is_class else np.zeros(len(keys), np.int64))
    return np.concatenate(hashes), np.concatenate(labels)


def _groups(
    folder: Path, manifest: Manifest, config: SplitConfig, starts: Mapping[str, Any], hashes: np.ndarray
) -> np.ndarray:
    """Return the hash of each sample's value in the column, or of its key if the value is missing, uint64 (N,)."""
    groups = hashes.copy()
    if LEDGER_NAME not in manifest.files:
        raise CallError(f"{folder} has no ledger, and so no column {config.by!r}; use --by label")
    for part in ledger_parts(folder, manifest):
        if config.by not in part.schema.names:
            raise unknown_name("column", config.by, part.schema.names, f"the ledger has {', '.join(part.schema.names)}")
        for row in part.select(sorted({"shard", "row", config.by})).to_pylist():
            if row["shard"] in starts and row[config.by] is not None:
                groups[starts[row["shard"]] + row["row"]] = seeded_hash(config.seed, f"={row[config.by]}")
    return groups
