"""Is a data set still what was written? Fast: everything but the content; full: every byte."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from walloc_cdl.canonical import sha256_file
from walloc_cdl.errors import DamagedError
from walloc_cdl.fields import REMEDY
from walloc_cdl.latents.manifest import (
    MANIFEST_NAME,
    PROVENANCE_NAME,
    WORK_NAME,
    FileEntry,
    Manifest,
    ShardEntry,
    load_manifest,
)
from walloc_cdl.latents.provenance import load_provenance
from walloc_cdl.latents.shard import Shard, open_shard
from walloc_cdl.latents.statistics import samples_histogram


@dataclass
class VerifyReport:
    """What was looked at, and everything wrong with it; no problems, no damage."""

    problems: list[str] = field(default_factory=list)
    """One line each, naming the file."""
    num_files: int = 0
    """Files that the manifest lists."""
    num_bytes: int = 0
    """Their bytes."""


def verify(
    folder: Path | str, *, full: bool = False, progress: Callable[[int, int], None] | None = None
) -> VerifyReport:
    """Check a data set against its manifest.

    Fast: the manifest's digest, the existence and size of every file, the structure of every shard, the
    provenance's digest, files that nothing lists. Full: besides, the SHA-256 of every file, the CRC32C of
    every sample, byte and label ranges, histograms and class counts. `progress` is called after each
    file with the number done and that of all. Raises `CallError` if `folder` is no data set.
    """
    folder = Path(folder)
    report = VerifyReport()
    try:
        manifest = load_manifest(folder)
    except DamagedError as error:
        report.problems.append(str(error))
        return report
    totals = _Totals(manifest)
    entries: list[tuple[str, ShardEntry | FileEntry]] = [(entry.name, entry) for entry in manifest.shards]
    entries += manifest.files.items()
    for name, entry in entries:
        report.num_files += 1
        report.num_bytes += entry.num_bytes
        report.problems += _file_problems(folder / name, entry, totals, full=full)
        if progress:
            progress(report.num_files, len(entries))
    if full:
        report.problems += [f"{folder / MANIFEST_NAME}: {problem}; {REMEDY}" for problem in totals.problems()]
    report.problems += _stray_files(folder, manifest)
    try:
        load_provenance(folder)
    except DamagedError as error:
        report.problems.append(str(error))
    return report


def _file_problems(path: Path, entry: ShardEntry | FileEntry, totals: _Totals, *, full: bool) -> list[str]:
    """Everything wrong with one file; a damaged shard is still read, to name the damaged samples."""
    problems = []
    try:
        _require_size(path, entry.num_bytes)
        if full and (found := sha256_file(path)) != entry.sha256:
            problems.append(f"{path}: SHA-256 is {found[:12]}…, expected {entry.sha256[:12]}…; {REMEDY}")
        if isinstance(entry, ShardEntry):
            shard = open_shard(path, entry, totals.layout)
            if full:
                problems += [f"shard {path}: {problem}; {REMEDY}" for problem in totals.add(shard, entry)]
    except DamagedError as error:
        problems.append(str(error))
    if problems and isinstance(entry, ShardEntry):
        totals.incomplete.add(entry.split)
    return problems


class _Totals:
    """Histograms and class counts recomputed from the shards, to be compared with the manifest's."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.layout = manifest.layout
        self.histograms = {name: np.zeros_like(histogram) for name, histogram in manifest.histograms.items()}
        self.class_counts = {name: np.zeros(self.num_classes, np.int64) for name in manifest.splits}
        self.incomplete: set[str] = set()
        """Splits with a damaged shard: their totals need not agree, and the shard is named already."""

    @property
    def num_classes(self) -> int:
        return len(self.manifest.class_names or [])

    def add(self, shard: Shard, entry: ShardEntry) -> list[str]:
        """Count the samples of one shard; returns what is wrong with single samples, in words."""
        problems = []
        if (wrong := np.flatnonzero(shard.checksums() != shard.crc32c)).size:
            rows = ", ".join(map(str, wrong[:5])) + (", …" if wrong.size > 5 else "")
            problems.append(f"{wrong.size} of {len(shard)} samples fail their CRC32C (rows {rows})")
        histogram = samples_histogram(shard.samples(), self.layout)
        self.histograms[entry.split] += histogram
        low, high = self.manifest.spec.byte_range
        outside = int(histogram.sum() - histogram[:, low : high + 1].sum())
        if outside:
            problems.append(f"{outside} code bytes outside {low} to {high}")
        if shard.labels is not None and len(shard):
            problems += self._add_labels(shard.labels, entry.split)
        return problems

    def _add_labels(self, labels: np.ndarray, split: str) -> list[str]:
        spec = self.layout.labels
        if (counts := spec.class_counts(labels)) is not None:
            self.class_counts[split] += counts
        outside = int(spec.invalid(labels).sum())
        return [f"{outside} labels outside {spec.valid_values}"] if outside else []

    def problems(self) -> list[str]:
        """Where the manifest's totals differ from the recomputed ones, in words."""
        found = []
        for name, summary in self.manifest.splits.items():
            if name in self.incomplete:
                continue
            channels = np.flatnonzero((self.histograms[name] != self.manifest.histograms[name]).any(1))
            if channels.size:
                found.append(f"split {name!r}: histogram of channels {channels.tolist()} differs from the shards'")
            if summary.class_counts is not None and summary.class_counts != self.class_counts[name].tolist():
                found.append(f"split {name!r}: class counts differ from the shards'")
        return found


def _require_size(path: Path, expected: int) -> None:
    if not path.is_file():
        raise DamagedError(f"{path}: missing, though the manifest lists it; {REMEDY}")
    if (found := path.stat().st_size) != expected:
        raise DamagedError(f"{path}: {found} bytes, expected {expected}; {REMEDY}")


UNLISTED = (MANIFEST_NAME, PROVENANCE_NAME, "README.md", ".gitattributes")
"""Files beside what the manifest lists: a card and Git's attributes, as repositories of data sets have them, are
text about the data set and no part of it."""


def _stray_files(folder: Path, manifest: Manifest) -> list[str]:
    """A line for every file that nothing lists; an unfinished job's `_work` is left alone."""
    listed = {entry.name for entry in manifest.shards} | {*manifest.files, *UNLISTED}
    found = []
    for parent, folders, names in os.walk(folder):
        if Path(parent) == folder and WORK_NAME in folders:
            folders.remove(WORK_NAME)
        folders.sort()
        found += [(Path(parent) / name).relative_to(folder).as_posix() for name in sorted(names)]
    return [f"{folder / name}: not listed in the manifest; move it elsewhere" for name in found if name not in listed]
