"""Derives new data sets from the samples of finished ones, shard by shard, with their ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from datasets_prep.folders.copy_samples import SplitWriter, max_shard_samples, open_verified_shard
from datasets_prep.ledger.rewrite import ledger_parts, rewrite_rows, stored_ledger_schema, write_edited_ledger
from datasets_prep.ledger.table import DROPPED, SCHEMA
from walloc_cdl.errors import CallError
from walloc_cdl.latents import LEDGER_NAME, MANIFEST_NAME, Manifest, SampleLayout, ShardEntry, load_manifest

OMITTED = -1
"""Split number of samples that are not part of the new data set."""


@dataclass(frozen=True)
class InputDataSet:
    """A data set whose samples are copied, and the changes to their keys and labels."""

    folder: Path
    manifest: Manifest
    prefix: str = ""
    """Prefix for all keys."""
    class_numbers: np.ndarray | None = None
    """int64 (classes,): the new number, or column, of each of its classes; None to keep the old ones."""

    def rename(self, key: str) -> str:
        """Return the new key."""
        return self.prefix + key

    def relabel(self, labels: np.ndarray, layout: SampleLayout) -> np.ndarray:
        """Return the new labels, in the form of `layout`."""
        if self.class_numbers is None:
            return labels
        if layout.labels.kind == "multilabel":
            columns = np.zeros((len(labels), layout.labels.num_columns), labels.dtype)
            columns[:, self.class_numbers] = labels
            return columns
        return np.where(labels < 0, labels, self.class_numbers[labels])


def find_derived(folder: Path, source: dict[str, Any]) -> Manifest | None:
    """Return the manifest of the finished data set that was derived from `source`; None if it is not finished.

    Raises `CallError` for another data set.
    """
    if not (folder / MANIFEST_NAME).is_file():
        return None
    if (found := load_manifest(folder)).source != source:
        raise CallError(f"{folder} holds another data set; give a new or empty folder")
    return found


Assign = Callable[[int, ShardEntry], np.ndarray]
"""Called with the number of an input and one of its shards; returns the split number of each sample, int64 (N,)."""


@dataclass(frozen=True)
class Derivation:
    """The assignment of the samples of input data sets to the splits of a new data set."""

    inputs: Sequence[InputDataSet]
    manifest: Manifest
    """The manifest of the new data set, except for splits, shards, histograms and ledger."""
    splits: Sequence[str]
    assign: Assign
    unstored: Mapping[str | None, str | None] = field(default_factory=dict)
    """For ledger rows that are not stored, maps their split to the new split, or to None to omit them; rows of other
    splits keep theirs."""
    destinations: dict[tuple[int, str], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """Filled by `write`: maps the number of an input and a shard to the new split of each row and its number there."""

    def write(self, out: Path, on_shard: Callable[[int, int], object] | None = None) -> Manifest:
        """Write shards and ledger into `out`; returns the complete manifest, which is not written.

        Raises `DamagedError` for a shard or ledger that differs from its manifest.
        """
        layout = self.manifest.layout
        shard_samples = max_shard_samples([each.manifest for each in self.inputs])
        writers = [SplitWriter(out, split, layout, shard_samples) for split in self.splits]
        try:
            self._copy_samples(writers, on_shard)
            summaries = [writer.finish() for writer in writers]
        finally:
            for writer in writers:
                writer.abandon()
        manifest = replace(
            self.manifest,
            splits=dict(zip(self.splits, summaries, strict=True)),
            shards=[entry for writer in writers for entry in writer.entries],
            histograms={split: writer.histogram for split, writer in zip(self.splits, writers, strict=True)},
            files={name: entry for name, entry in self.manifest.files.items() if name != LEDGER_NAME},
            ledger={},
        )
        if any(LEDGER_NAME not in each.manifest.files for each in self.inputs):
            return manifest
        num_rows = sum(part.num_rows for part in self._ledger(writers))
        entry, summary = write_edited_ledger(
            out / LEDGER_NAME, lambda: self._ledger(writers), num_rows, self._ledger_schema()
        )
        return replace(manifest, files=dict(sorted({**manifest.files, LEDGER_NAME: entry}.items())), ledger=summary)

    def _copy_samples(self, writers: list[SplitWriter], on_shard: Callable[[int, int], object] | None) -> None:
        layout, filled = self.manifest.layout, np.zeros(len(writers), np.int64)
        total = sum(len(each.manifest.shards) for each in self.inputs)
        done = 0
        for number, data_set in enumerate(self.inputs):
            for entry in data_set.manifest.shards:
                splits = self.assign(number, entry)
                numbers = np.zeros(len(splits), np.int64)
                if (splits != OMITTED).any():
                    shard = open_verified_shard(data_set.folder, entry, data_set.manifest.layout)
                    for split, writer in enumerate(writers):
                        rows = np.flatnonzero(splits == split)
                        numbers[rows] = filled[split] + np.arange(len(rows))
                        filled[split] += len(rows)
                        writer.append(
                            shard,
                            rows,
                            rename=data_set.rename,
                            relabel=lambda labels, data_set=data_set: data_set.relabel(labels, layout),
                        )
                self.destinations[number, entry.name] = splits, numbers
                done += 1
                if on_shard:
                    on_shard(done, total)

    def _ledger_schema(self) -> pa.Schema:
        """Return the standard columns, and those further columns that are equal in the ledgers of all inputs."""
        schemas = [stored_ledger_schema(each.folder, each.manifest) for each in self.inputs]
        further = [column for column in schemas[0] if column.name not in SCHEMA.names]
        return pa.schema([*SCHEMA, *(column for column in further if all(column in list(each) for each in schemas))])

    def _ledger(self, writers: list[SplitWriter]) -> Iterator[pa.Table]:
        names = self._ledger_schema().names
        for number, data_set in enumerate(self.inputs):
            rewrite = self._row_rewriter(number, data_set, writers)
            for part in ledger_parts(data_set.folder, data_set.manifest):
                part = part.filter(pa.array(self._is_included(number, part)))
                if part.num_rows:
                    yield rewrite_rows(part.select(names), rewrite)

    def _is_included(self, number: int, part: pa.Table) -> np.ndarray:
        """Return which rows of a ledger belong to the new data set, bool (N,)."""
        included = np.ones(part.num_rows, bool)
        for position, row in enumerate(part.select(["split", "shard", "row"]).to_pylist()):
            if row["shard"] is not None:
                included[position] = self.destinations[number, row["shard"]][0][row["row"]] != OMITTED
            elif row["split"] in self.unstored:
                included[position] = self.unstored[row["split"]] is not None
        return included

    def _row_rewriter(
        self, number: int, data_set: InputDataSet, writers: list[SplitWriter]
    ) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def rewrite(row: dict[str, Any]) -> dict[str, Any]:
            key, label = row["key"], row["label"]
            changed = {**row, "key": key if row["reason"] == DROPPED else data_set.rename(key)}
            if data_set.class_numbers is not None and self.manifest.label_kind == "class" and label >= 0:
                changed["label"] = int(data_set.class_numbers[label])
            if row["shard"] is not None:
                splits, numbers = self.destinations[number, row["shard"]]
                split = int(splits[row["row"]])
                changed["split"] = self.splits[split]
                changed["shard"], changed["row"] = writers[split].location(int(numbers[row["row"]]))
            elif row["split"] in self.unstored:
                changed["split"] = self.unstored[row["split"]]
            return changed

        return rewrite
