"""New data sets made of the samples of finished ones: shard by shard, with the ledger following."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from datasets_prep.folders.copy_samples import SplitWriter, open_verified_shard, shard_samples_of
from datasets_prep.ledger.rewrite import ledger_parts, rewrite_rows, stored_ledger_schema, write_edited_ledger
from datasets_prep.ledger.table import DROPPED, SCHEMA
from walloc_cdl.latents import LEDGER_NAME, Manifest, SampleLayout, ShardEntry

LEFT_OUT = -1
"""Instead of the number of a split: the sample does not come along."""


@dataclass(frozen=True)
class Origin:
    """A data set whose samples are taken, and what becomes of their names and labels."""

    folder: Path
    manifest: Manifest
    prefix: str = ""
    """Put before every key."""
    class_numbers: np.ndarray | None = None
    """int64 (classes,): the new number, or column, of each of its classes; None where they keep theirs."""

    def rename(self, key: str) -> str:
        """The new key."""
        return self.prefix + key

    def relabel(self, labels: np.ndarray, layout: SampleLayout) -> np.ndarray:
        """The new labels, as `layout` has them."""
        if self.class_numbers is None:
            return labels
        if layout.labels.kind == "multilabel":
            columns = np.zeros((len(labels), layout.labels.num_columns), labels.dtype)
            columns[:, self.class_numbers] = labels
            return columns
        return np.where(labels < 0, labels, self.class_numbers[labels])


Assign = Callable[[int, ShardEntry], np.ndarray]
"""For the samples of a shard of the origin with this number: the number of each one's new split, int64 (N,)."""


@dataclass(frozen=True)
class Derivation:
    """Which samples go where."""

    origins: Sequence[Origin]
    manifest: Manifest
    """Of the new data set, but for splits, shards, histograms and ledger."""
    splits: Sequence[str]
    assign: Assign
    unstored: Mapping[str | None, str | None] = field(default_factory=dict)
    """The new split, or None to leave them out, of the rows of the ledger that are not stored, by their split; those of
    other splits keep theirs."""
    places: dict[tuple[int, str], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """Filled on the way: by origin and shard, the new split of each row and its number there."""

    def write(self, out: Path, on_shard: Callable[[int, int], object] | None = None) -> Manifest:
        """Write shards and ledger into `out`; returns the whole manifest, which is not written.

        Raises `DamagedError` for a shard or ledger that is not what its manifest says.
        """
        layout = self.manifest.layout
        shard_samples = shard_samples_of([origin.manifest for origin in self.origins])
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
        if any(LEDGER_NAME not in origin.manifest.files for origin in self.origins):
            return manifest
        num_rows = sum(part.num_rows for part in self._ledger(writers))
        entry, summary = write_edited_ledger(
            out / LEDGER_NAME, lambda: self._ledger(writers), num_rows, self._ledger_schema()
        )
        return replace(manifest, files=dict(sorted({**manifest.files, LEDGER_NAME: entry}.items())), ledger=summary)

    def _copy_samples(self, writers: list[SplitWriter], on_shard: Callable[[int, int], object] | None) -> None:
        layout, filled = self.manifest.layout, np.zeros(len(writers), np.int64)
        total = sum(len(origin.manifest.shards) for origin in self.origins)
        done = 0
        for number, origin in enumerate(self.origins):
            for entry in origin.manifest.shards:
                splits = self.assign(number, entry)
                numbers = np.zeros(len(splits), np.int64)
                if (splits != LEFT_OUT).any():
                    shard = open_verified_shard(origin.folder, entry, origin.manifest.layout)
                    for split, writer in enumerate(writers):
                        rows = np.flatnonzero(splits == split)
                        numbers[rows] = filled[split] + np.arange(len(rows))
                        filled[split] += len(rows)
                        writer.append(
                            shard,
                            rows,
                            rename=origin.rename,
                            relabel=lambda labels, origin=origin: origin.relabel(labels, layout),
                        )
                self.places[number, entry.name] = splits, numbers
                done += 1
                if on_shard:
                    on_shard(done, total)

    def _ledger_schema(self) -> pa.Schema:
        """Columns of every ledger, and those kept of the source that all origins have alike."""
        schemas = [stored_ledger_schema(origin.folder, origin.manifest) for origin in self.origins]
        kept = [column for column in schemas[0] if column.name not in SCHEMA.names]
        return pa.schema([*SCHEMA, *(column for column in kept if all(column in list(schema) for schema in schemas))])

    def _ledger(self, writers: list[SplitWriter]) -> Iterator[pa.Table]:
        names = self._ledger_schema().names
        for number, origin in enumerate(self.origins):
            rewrite = self._row_rewriter(number, origin, writers)
            for part in ledger_parts(origin.folder, origin.manifest):
                part = part.filter(pa.array(self._comes_along(number, part)))
                if part.num_rows:
                    yield rewrite_rows(part.select(names), rewrite)

    def _comes_along(self, number: int, part: pa.Table) -> np.ndarray:
        """Which rows of the ledger belong to the new data set: bool (N,)."""
        kept = np.ones(part.num_rows, bool)
        for position, row in enumerate(part.select(["split", "shard", "row"]).to_pylist()):
            if row["shard"] is not None:
                kept[position] = self.places[number, row["shard"]][0][row["row"]] != LEFT_OUT
            elif row["split"] in self.unstored:
                kept[position] = self.unstored[row["split"]] is not None
        return kept

    def _row_rewriter(
        self, number: int, origin: Origin, writers: list[SplitWriter]
    ) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def rewrite(row: dict[str, Any]) -> dict[str, Any]:
            key, label = row["key"], row["label"]
            changed = {**row, "key": key if row["reason"] == DROPPED else origin.rename(key)}
            if origin.class_numbers is not None and self.manifest.label_kind == "class" and label >= 0:
                changed["label"] = int(origin.class_numbers[label])
            if row["shard"] is not None:
                splits, numbers = self.places[number, row["shard"]]
                split = int(splits[row["row"]])
                changed["split"] = self.splits[split]
                changed["shard"], changed["row"] = writers[split].place(int(numbers[row["row"]]))
            elif row["split"] in self.unstored:
                changed["split"] = self.unstored[row["split"]]
            return changed

        return rewrite
