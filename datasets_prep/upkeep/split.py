"""`cdl split`: the samples of one split dealt out to several, or one split as a data set of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets_prep.folders.derived_folder import begin, copy_files, end
from datasets_prep.ledger.rewrite import ledger_parts
from datasets_prep.upkeep.assignment import deal, deal_groups, seeded_lot
from datasets_prep.upkeep.derive import LEFT_OUT, Derivation, Origin
from datasets_prep.upkeep.edit import editing, note_edit
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.errors import CallError, unknown_name
from walloc_cdl.fields import is_plain_path
from walloc_cdl.latents import (
    LEDGER_NAME,
    MANIFEST_NAME,
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
    """How the samples of a split are dealt out."""

    shares: Mapping[str, float]
    """New split → share of the samples; the shares add up to 1."""
    split: str | None = None
    """Which split is dealt out; None for the only one. Others stay as they are."""
    by: str = LABEL
    """`label`: each class in its shares, where labels are class numbers. Any other name is a column of the ledger:
    samples of the same value there do not part; `sha256` keeps equal content together."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, share in self.shares.items():
            if not is_plain_path(name) or "/" in name:
                raise CallError(f"split name {name!r}; expected letters, digits, '_', '.' and '-'")
            if not 0 < share < 1:
                raise CallError(f"share of split {name!r} is {share:g}; expected a number above 0 and below 1")
        if abs((total := sum(self.shares.values())) - 1) > 1e-6:
            raise CallError(f"the shares {', '.join(map(str, self.shares.values()))} add up to {total:g}, expected 1")


def split_in_place(folder: Path, config: SplitConfig, *, on_shard: OnShard | None = None) -> Manifest:
    """Deal out the samples of one split of a data set; all of it or nothing, and the same call again ends it.

    Needs the space of the shards once more while it works. Raises `CallError` for an unknown split or column, and for
    a new name that another split has.
    """
    done = {"by": config.by, "seed": config.seed, "shares": dict(config.shares)}
    with editing(folder) as edit:
        before = edit.manifest.source.get("split")
        if isinstance(before, dict) and before == {**done, "of": config.split or before.get("of")}:
            return edit.manifest
        chosen = _chosen(folder, edit.manifest, config)
        derivation = _dealt(folder, edit.manifest, config, chosen)
        source = {**edit.manifest.source, "split": {**done, "of": chosen}}
        manifest = replace(derivation, manifest=replace(edit.manifest, source=source)).write(edit.stage, on_shard)
        edit.note("split")
        edit.commit(manifest)
    return manifest


def take_split(folder: Path, split: str, out: Path, *, on_shard: OnShard | None = None) -> Manifest:
    """Make the data set `out` of one split; the same call again goes on with what was interrupted.

    Raises `CallError` for an unknown split, and for an `out` that holds anything else.
    """
    manifest = load_manifest(folder)
    if split not in manifest.splits:
        raise unknown_name("split", split, manifest.splits, f"{folder} has {', '.join(manifest.splits)}")
    source = {**manifest.source, "only": split, "of": sha256_hex(manifest_bytes(manifest))}
    if (out / MANIFEST_NAME).is_file():
        if (found := load_manifest(out)).source != source:
            raise CallError(f"{out} holds another data set; give a new or empty folder")
        end(out)
        return found
    begin(out, {"job": "split", "source": source})

    def assign(number: int, entry: ShardEntry) -> np.ndarray:
        return np.full(entry.num_samples, 0 if entry.split == split else LEFT_OUT, np.int64)

    unstored = {name: None for name in (None, *manifest.splits) if name != split}
    described = replace(manifest, source=source)
    derived = Derivation([Origin(folder, manifest)], described, [split], assign, unstored).write(out, on_shard)
    copy_files(folder, out, {name: entry for name, entry in derived.files.items() if name != LEDGER_NAME})
    note_edit(folder, out, "split")
    write_manifest(out, derived)
    end(out)
    return derived


def _chosen(folder: Path, manifest: Manifest, config: SplitConfig) -> str:
    """The split to deal out."""
    if config.split is None and len(manifest.splits) != 1:
        raise CallError(f"{folder} has the splits {', '.join(manifest.splits)}; say with --split which one to deal out")
    split = config.split or next(iter(manifest.splits))
    if split not in manifest.splits:
        raise unknown_name("split", split, manifest.splits, f"{folder} has {', '.join(manifest.splits)}")
    if taken := [name for name in config.shares if name in manifest.splits and name != split]:
        raise CallError(f"{folder} has a split {taken[0]!r} already; give the new one another name")
    return split


def _dealt(folder: Path, manifest: Manifest, config: SplitConfig, chosen: str) -> Derivation:
    """Which sample goes where; 16 bytes a sample are held for it."""
    others = [name for name in manifest.splits if name != chosen]
    splits = [*config.shares, *others]
    entries = manifest.shards_of(chosen)
    begins = np.cumsum([0, *(entry.num_samples for entry in entries)])
    starts = {entry.name: int(begin) for entry, begin in zip(entries, begins[:-1], strict=True)}
    lots, labels = _lots_and_labels(folder, manifest, entries, config)
    if config.by == LABEL:
        dealt = deal(lots, labels, list(config.shares.values()))
    else:
        groups = _groups(folder, manifest, config, starts, lots)
        dealt = deal_groups(groups, groups, labels, list(config.shares.values()))
    if empty := [name for number, name in enumerate(config.shares) if not (dealt == number).any()]:
        raise CallError(f"split {empty[0]!r} would be empty; choose another share or have more samples")

    def assign(number: int, entry: ShardEntry) -> np.ndarray:
        if entry.split != chosen:
            return np.full(entry.num_samples, splits.index(entry.split), np.int64)
        return dealt[starts[entry.name] : starts[entry.name] + entry.num_samples]

    return Derivation([Origin(folder, manifest)], manifest, splits, assign, {chosen: splits[0]})


def _lots_and_labels(
    folder: Path, manifest: Manifest, entries: list[ShardEntry], config: SplitConfig
) -> tuple[np.ndarray, np.ndarray]:
    """uint64 (N,) and int64 (N,); the labels are 0 where they are no class numbers."""
    lots = [np.empty(0, np.uint64)]
    labels = [np.empty(0, np.int64)]
    for entry in entries:
        shard = open_shard(folder / entry.name, entry, manifest.layout)
        keys = shard.keys(range(len(shard)))
        lots.append(np.fromiter((seeded_lot(config.seed, key) for key in keys), np.uint64, len(keys)))
        is_class = manifest.label_kind == "class" and shard.labels is not None
        labels.append(np.array(shard.labels) if is_class else np.zeros(len(keys), np.int64))
    return np.concatenate(lots), np.concatenate(labels)


def _groups(
    folder: Path, manifest: Manifest, config: SplitConfig, starts: Mapping[str, Any], lots: np.ndarray
) -> np.ndarray:
    """uint64 (N,): the lot of the value that each sample has in the column, its own where it has none."""
    groups = lots.copy()
    if LEDGER_NAME not in manifest.files:
        raise CallError(f"{folder} has no ledger, so no column {config.by!r}; use --by label")
    for part in ledger_parts(folder, manifest):
        if config.by not in part.schema.names:
            raise unknown_name("column", config.by, part.schema.names, f"the ledger has {', '.join(part.schema.names)}")
        for row in part.select(sorted({"shard", "row", config.by})).to_pylist():
            if row["shard"] in starts and row[config.by] is not None:
                groups[starts[row["shard"]] + row["row"]] = seeded_lot(config.seed, f"={row[config.by]}")
    return groups
