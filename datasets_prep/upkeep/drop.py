"""`cdl drop`: removes samples from a finished data set, for example if a person asks to have their images deleted.

The ledger keeps a hash of the key of a dropped sample, so that a later extension from the same source does not bring it
back, while the name cannot be read; names that can be guessed can be tested, as with any hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datasets_prep.folders.copy_samples import open_verified_shard, read_rows, row_batches, write_rows
from datasets_prep.ledger.rewrite import ledger_parts, rewrite_rows, stored_ledger_schema, write_edited_ledger
from datasets_prep.ledger.table import DROPPED, SCHEMA, hidden_key
from datasets_prep.upkeep.edit import Edit, editing
from walloc_cdl.addresses import local_path
from walloc_cdl.errors import CallError, abbreviate
from walloc_cdl.latents import (
    LEDGER_NAME,
    UNKNOWN_LABEL,
    Manifest,
    ShardEntry,
    SplitSummary,
    open_shard,
)
from walloc_cdl.latents.statistics import samples_histogram

EMPTY_ROW = {**dict.fromkeys(SCHEMA.names), "label": UNKNOWN_LABEL, "num_bytes": 0}
"""A ledger row without any information."""

Name = tuple[str | None, str]
"""Split and key; the split of a file outside of all splits is None."""


@dataclass(frozen=True)
class Dropped:
    """The result of `drop`."""

    manifest: Manifest
    num_dropped: int
    """Number of stored samples that were removed."""
    num_already: int
    """Number of keys that had been dropped before."""
    num_copies: int
    """Number of stored samples with the same content as a removed one."""


@dataclass
class _Matches:
    """The samples and ledger rows that the keys match."""

    rows: dict[str, list[int]] = field(default_factory=dict)
    """Maps each shard to its rows with stored samples, ascending."""
    names: set[Name] = field(default_factory=set)
    """Names of matching ledger rows, with and without stored samples."""
    hashes: set[str] = field(default_factory=set)
    """SHA-256 of the content of the stored samples."""
    already: set[str] = field(default_factory=set)
    """Keys that the ledger lists as dropped."""


def drop(
    folder: Path | str,
    keys: Iterable[str],
    *,
    split: str | None = None,
    on_shard: Callable[[int, int], object] | None = None,
) -> Dropped:
    """Remove the samples with these keys from a data set, atomically; the same call again completes an interrupted one.

    Shards with such samples are rewritten without them, in the same order; histograms, counts and ledger are updated.
    The ledger keeps one row for each dropped sample, whose key is `sha256:` and the SHA-256 of the key, and nothing
    else about it. The linear synthesis, fitted to a selection of samples, does not change. Keys that were dropped
    before are accepted.

    Raises `CallError`, before any change, for unknown keys and for keys that occur in several splits, unless `split`
    selects one; `DamagedError` for damaged shards.
    """
    folder, wanted = local_path(folder), list(dict.fromkeys(keys))
    if not wanted:
        raise CallError("no keys to drop; give some, or a file of them")
    with editing(folder) as edit:
        if split is not None and split not in edit.manifest.splits:
            raise CallError(f"{folder} has no split {split!r}; it has {', '.join(edit.manifest.splits)}")
        found = _find(folder, edit.manifest, wanted, split)
        _require_found(folder, wanted, found)
        num_dropped = sum(map(len, found.rows.values()))
        if not found.names:
            return Dropped(edit.manifest, 0, len(found.already), 0)
        manifest = _without_rows(edit, found, on_shard)
        num_copies = 0
        if LEDGER_NAME in manifest.files:
            manifest, num_copies = _edited_ledger(edit, manifest, found)
        edit.note("drop", num_samples=num_dropped)
        edit.commit(manifest)
    return Dropped(manifest, num_dropped, len(found.already), num_copies)


def _find(folder: Path, manifest: Manifest, wanted: list[str], split: str | None) -> _Matches:
    found = _Matches()
    by_bytes = {key.encode("utf-8", "surrogateescape"): key for key in wanted}
    for entry in manifest.shards:
        if split is None or entry.split == split:
            shard = open_shard(folder / entry.name, entry, manifest.layout)
            for row, encoded in enumerate(shard.encoded_keys(range(len(shard)))):
                if encoded in by_bytes:
                    found.rows.setdefault(entry.name, []).append(row)
                    found.names.add((entry.split, by_bytes[encoded]))
    hidden = {hidden_key(key): key for key in wanted}
    texts = {key for key in wanted if _is_text(key)}
    values = pa.array([*texts, *hidden], pa.string())
    for part in ledger_parts(folder, manifest):
        for row in part.filter(pc.is_in(part["key"], value_set=values)).to_pylist():
            if split is not None and row["split"] != split:
                continue
            if row["key"] in hidden and row["reason"] == DROPPED:
                found.already.add(hidden[row["key"]])
            elif row["key"] in texts:
                found.names.add((row["split"], row["key"]))
                if row["shard"] is not None and row["sha256"] is not None:
                    found.hashes.add(row["sha256"])
    return found


def _is_text(key: str) -> bool:
    """Return whether a key can be in a ledger; bytes of the command line that are not UTF-8 cannot."""
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _require_found(folder: Path, wanted: list[str], found: _Matches) -> None:
    splits: dict[str, set[str | None]] = {}
    for name, key in found.names:
        splits.setdefault(key, set()).add(name)
    if unknown := [key for key in wanted if key not in splits and key not in found.already]:
        raise CallError(
            f"{len(unknown)} of {len(wanted)} keys are not in {folder}: {abbreviate([*map(repr, unknown)])}; "
            f"nothing was changed; {LEDGER_NAME} lists the keys"
        )
    if ambiguous := [key for key in wanted if len(splits.get(key, ())) > 1]:
        names = ", ".join(sorted(str(name) for name in splits[ambiguous[0]]))
        raise CallError(
            f"{len(ambiguous)} keys are in several splits: {abbreviate([*map(repr, ambiguous)])} ({names}); select one "
            "split at a time with --split"
        )


def _without_rows(edit: Edit, found: _Matches, on_shard: Callable[[int, int], object] | None) -> Manifest:
    """Write the affected shards without the dropped samples to the stage; returns the manifest."""
    manifest = edit.manifest
    shards: list[ShardEntry] = []
    histograms = {name: histogram.copy() for name, histogram in manifest.histograms.items()}
    counts = {name: None if s.class_counts is None else np.array(s.class_counts) for name, s in manifest.splits.items()}
    for number, entry in enumerate(manifest.shards):
        if entry.name in found.rows:
            dropped = np.array(found.rows[entry.name], np.int64)
            shard = open_verified_shard(edit.folder, entry, manifest.layout)
            for rows in row_batches(dropped):
                samples = read_rows(shard, rows, shard.layout)
                histograms[entry.split] -= samples_histogram(samples["codes"], manifest.layout)
                if (classes := counts[entry.split]) is not None:
                    classes -= manifest.layout.labels.class_counts(samples["labels"])
            remaining = np.delete(np.arange(len(shard)), dropped)
            if len(remaining):
                shards.append(write_rows(edit.stage, entry, shard, remaining, manifest.layout)[0])
        else:
            shards.append(entry)
        if on_shard:
            on_shard(number + 1, len(manifest.shards))
    splits = {}
    for name in manifest.splits:
        num = sum(entry.num_samples for entry in shards if entry.split == name)
        classes = counts[name]
        splits[name] = SplitSummary(num, None if classes is None else classes.tolist())
    return replace(manifest, shards=shards, splits=splits, histograms=histograms)


def _edited_ledger(edit: Edit, manifest: Manifest, found: _Matches) -> tuple[Manifest, int]:
    """Write the ledger to the stage.

    Returns the manifest with it, and the number of stored samples that have the content of a dropped one.
    """
    dropped = {name: np.array(rows) for name, rows in found.rows.items()}
    num_rows = sum(part.num_rows for part in ledger_parts(edit.folder, edit.manifest))
    schema = stored_ledger_schema(edit.folder, edit.manifest)

    def rewrite(row: dict[str, Any]) -> dict[str, Any]:
        if (row["split"], row["key"]) in found.names:
            return {**EMPTY_ROW, "split": row["split"], "key": hidden_key(row["key"]), "reason": DROPPED}
        if row["shard"] in dropped:
            return {**row, "row": row["row"] - int(np.searchsorted(dropped[row["shard"]], row["row"]))}
        return row

    def parts() -> Iterator[pa.Table]:
        return (rewrite_rows(part, rewrite) for part in ledger_parts(edit.folder, edit.manifest))

    values = pa.array(sorted(found.hashes), pa.string())
    num_copies = 0
    for part in parts():
        num_copies += pc.sum(pc.is_in(part.filter(pc.is_valid(part["shard"]))["sha256"], value_set=values)).as_py() or 0
    entry, summary = write_edited_ledger(edit.stage / LEDGER_NAME, parts, num_rows, schema)
    return replace(manifest, files={**manifest.files, LEDGER_NAME: entry}, ledger=summary), num_copies
