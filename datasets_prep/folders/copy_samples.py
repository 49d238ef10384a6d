"""Copies samples from shard to shard, in batches, with everything that a shard holds of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from walloc_cdl.canonical import sha256_file
from walloc_cdl.errors import DamagedError
from walloc_cdl.latents import (
    FileEntry,
    Manifest,
    SampleLayout,
    Shard,
    ShardEntry,
    ShardWriter,
    SplitSummary,
    open_shard,
)
from walloc_cdl.latents.packing import to_codes

BATCH_SAMPLES = 512

Rename = Callable[[str], str]
Relabel = Callable[[np.ndarray], np.ndarray]


def open_verified_shard(folder: Path, entry: ShardEntry, layout: SampleLayout) -> Shard:
    """Open a shard after verifying its SHA-256, so that no damaged data gets a new, valid checksum in a copy.

    Raises `DamagedError` if it is damaged.
    """
    shard = open_shard(folder / entry.name, entry, layout)
    require_verified_file(folder, entry.name, entry)
    return shard


def require_verified_file(folder: Path, name: str, entry: ShardEntry | FileEntry) -> None:
    """Raise `DamagedError` unless a file exists and has the SHA-256 of its manifest entry."""
    path = folder / name
    if not path.is_file() or sha256_file(path) != entry.sha256:
        found = f"SHA-256 is {sha256_file(path)[:12]}…" if path.is_file() else "missing"
        raise DamagedError(f"{path}: {found}, expected {entry.sha256[:12]}…; `cdl repair {folder}` first")


def row_batches(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Divide rows into batches that fit in memory."""
    return (rows[start : start + BATCH_SAMPLES] for start in range(0, len(rows), BATCH_SAMPLES))


def read_rows(
    shard: Shard,
    rows: np.ndarray,
    layout: SampleLayout,
    *,
    rename: Rename | None = None,
    relabel: Relabel | None = None,
) -> dict[str, Any]:
    """Read the samples in `rows`, int64, of a shard, as keyword arguments of `ShardWriter.append` for `layout`.

    Of packed samples, those bit planes are read that `layout` has, the first ones of the shard's.
    """
    keys = shard.keys(rows)
    labels = None if shard.labels is None else shard.labels[rows]
    return {
        "codes": _codes(shard, rows, layout),
        "labels": labels if relabel is None or labels is None else relabel(labels),
        "keys": keys if rename is None else [rename(key) for key in keys],
        "sizes": None if shard.sizes is None else shard.sizes[rows],
    }


def _codes(shard: Shard, rows: np.ndarray, layout: SampleLayout) -> np.ndarray | list[np.ndarray]:
    if shard.offsets is None:
        codes = shard.codes[rows]
        return np.ascontiguousarray(codes[..., : layout.view_shape[0]]) if layout.packed else codes
    if layout.packed:
        return [to_codes(shard.stored(row), layout.spec.planes, shard.grid(row)) for row in rows]
    return [shard.sample_codes(row) for row in rows]


def write_rows(
    folder: Path, entry: ShardEntry, shard: Shard, rows: np.ndarray, layout: SampleLayout
) -> tuple[ShardEntry, np.ndarray]:
    """Write the samples in `rows`, int64, of a shard to a shard of the same name and split in `folder`.

    Returns its entry and histogram.
    """
    with ShardWriter(folder, entry.name, layout=layout, split=entry.split, capacity=len(rows)) as writer:
        for batch in row_batches(rows):
            writer.append(**read_rows(shard, batch, layout))
        return writer.finish()


class SplitWriter:
    """Writes the samples of one split to a series of shards, named and filled like those of `cdl prepare`."""

    def __init__(self, folder: Path, split: str, layout: SampleLayout, shard_samples: int) -> None:
        self.entries: list[ShardEntry] = []
        self.histogram = np.zeros((layout.spec.latent_channels, 256), np.int64)
        """int64 (K, 256), the histogram of all shards."""
        self._counts = layout.labels.zero_class_counts()
        self._folder, self._split, self._layout, self._shard_samples = folder, split, layout, shard_samples
        self._writer: ShardWriter | None = None
        self._num_open = 0

    def location(self, number: int) -> tuple[str, int]:
        """Return the shard and the row of the sample with a number in the split."""
        return self._name(number // self._shard_samples), number % self._shard_samples

    def append(self, shard: Shard, rows: np.ndarray, **changes: Any) -> None:
        """Append the samples in `rows` of a shard; `changes` are keyword arguments of `read_rows`."""
        for batch in row_batches(rows):
            while len(batch):
                writer = self._writer or self._open_writer()
                taken = batch[: self._shard_samples - self._num_open]
                samples = read_rows(shard, taken, self._layout, **changes)
                writer.append(samples.pop("codes"), samples.pop("labels"), samples.pop("keys"), **samples)
                self._num_open += len(taken)
                batch = batch[len(taken) :]
                if self._num_open == self._shard_samples:
                    self._close_writer()
        if self._counts is not None and shard.labels is not None:
            labels, relabel = shard.labels[rows], changes.get("relabel")
            self._counts += self._layout.labels.class_counts(labels if relabel is None else relabel(labels))

    def finish(self) -> SplitSummary:
        """Finish the last shard; returns the summary of the split."""
        if self._writer is not None:
            self._close_writer()
        counts = None if self._counts is None else self._counts.tolist()
        return SplitSummary(sum(entry.num_samples for entry in self.entries), counts)

    def abandon(self) -> None:
        """Discard the shard that is being written, if any."""
        if self._writer is not None:
            self._writer.__exit__(None, None, None)
            self._writer = None

    def _name(self, number: int) -> str:
        return f"{self._split}-{number:05d}.safetensors"

    def _open_writer(self) -> ShardWriter:
        name = self._name(len(self.entries))
        self._writer = ShardWriter(
            self._folder, name, layout=self._layout, split=self._split, capacity=self._shard_samples
        )
        self._num_open = 0
        return self._writer.__enter__()

    def _close_writer(self) -> None:
        assert self._writer is not None
        entry, histogram = self._writer.finish()
        self._writer = None
        self.entries.append(entry)
        self.histogram += histogram


def max_shard_samples(manifests: Sequence[Manifest]) -> int:
    """Return the number of samples in the largest shard of the data sets, at least 1."""
    return max([1, *(entry.num_samples for manifest in manifests for entry in manifest.shards)])
