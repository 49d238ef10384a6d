"""Is a data set still what was written? Fast: everything but the codes; full: every byte."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from walloc_cdl.canonical import sha256_file
from walloc_cdl.errors import DamagedError
from walloc_cdl.fields import REMEDY
from walloc_cdl.latents.checks.ledger_keys import ledger_keys
from walloc_cdl.latents.checks.shard_content import ContentTotals, damaged_rows
from walloc_cdl.latents.copies import copy_path
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, parse_json_with_digest
from walloc_cdl.latents.manifest import (
    COPY_FOLDER,
    LEDGER_NAME,
    MANIFEST_NAME,
    PROVENANCE_NAME,
    WORK_NAME,
    FileEntry,
    Manifest,
    ShardEntry,
)
from walloc_cdl.latents.manifest_file import load_manifest
from walloc_cdl.latents.shard import DamagedShardError, open_shard

NAMED_SAMPLES = 5
"""Damaged samples of a shard that its line names; the report has all of them."""


@dataclass(frozen=True)
class DamagedSample:
    """A sample that is not what was written."""

    shard: str
    row: int
    key: str
    """By the ledger, if that is whole; else as the shard has it, which may be what is damaged."""


@dataclass
class VerifyReport:
    """What was looked at, and everything wrong with it; no problems, no damage."""

    problems: list[str] = field(default_factory=list)
    """One line each, naming the file."""
    damaged_files: list[str] = field(default_factory=list)
    """Relative paths of files that are missing or not what was written, copies among them, each once."""
    damaged_samples: list[DamagedSample] = field(default_factory=list)
    """Samples of the damaged shards, as far as the damage lies in single ones."""
    num_files: int = 0
    """Files that the manifest lists."""
    num_bytes: int = 0
    """Their bytes."""

    def add(self, name: str, problem: str) -> None:
        """Note what is wrong with the file of this relative path."""
        self.problems.append(problem)
        if name not in self.damaged_files:
            self.damaged_files.append(name)


def verify(
    folder: Path | str, *, full: bool = False, progress: Callable[[int, int], None] | None = None
) -> VerifyReport:
    """Check a data set against its manifest.

    Fast: the manifest's digest, the existence and size of every file and its copy, the structure and the index
    (all but the codes) of every shard, the provenance's digest, files that nothing lists. Full: besides, the
    SHA-256 of every file and copy, the CRC32C of every sample, byte and label ranges, histograms and class
    counts. `progress` is called after each file with the number done and that of all. Raises `CallError` if
    `folder` is no data set.
    """
    folder = Path(folder)
    report = VerifyReport()
    try:
        manifest = load_manifest(folder)
    except DamagedError as error:
        report.add(MANIFEST_NAME, str(error))
        return report
    check = _Check(folder, manifest, report, full)
    entries: list[ShardEntry | tuple[str, FileEntry]] = [*manifest.shards, *manifest.files.items()]
    for entry in entries:
        if isinstance(entry, ShardEntry):
            check.shard(entry)
        else:
            check.file(*entry)
        if progress:
            progress(report.num_files, len(entries))
    check.totals_and_sealed_files()
    for name in _stray_files(folder, manifest):
        report.problems.append(f"{folder / name}: not listed in the manifest; move it elsewhere")
    return report


@dataclass
class _Check:
    """One verification: what is checked, how thoroughly, and what came out."""

    folder: Path
    manifest: Manifest
    report: VerifyReport
    full: bool

    @cached_property
    def totals(self) -> ContentTotals:
        return ContentTotals(self.manifest)

    def shard(self, entry: ShardEntry) -> None:
        """One shard; a damaged one is still read, to name the damaged samples."""
        name, remedy = entry.name, f"`cdl repair {self.folder} --source SOURCE` encodes it again"
        self._count(entry.num_bytes)
        problems = [f"{self.folder / name}: {problem}" for problem in self._differences(name, entry)]
        try:
            shard = open_shard(self.folder / name, entry, self.manifest.layout)
            if not self.full and shard.index_sha256() != entry.index_sha256:
                problems.append(f"shard {self.folder / name}: labels, keys or checksums are not those of the manifest")
            if self.full:
                if (rows := damaged_rows(shard)).size:
                    named = self._samples(name, dict(zip(rows.tolist(), shard.keys(rows), strict=True)))
                    problems.append(
                        f"shard {self.folder / name}: {rows.size} of {len(shard)} samples fail their CRC32C ({named})"
                    )
                problems += [f"shard {self.folder / name}: {problem}" for problem in self.totals.add(shard, entry)]
        except DamagedShardError as error:
            named = "" if error.row is None else f" ({self._samples(name, {error.row: '?'})})"
            problems.append(str(error).removesuffix(f"; {REMEDY}") + named)
        except DamagedError as error:
            if not problems:  # sizes are told already
                problems.append(str(error).removesuffix(f"; {REMEDY}"))
        for problem in problems:
            self.report.add(name, f"{problem}; {remedy}")
        if problems:
            self.totals.incomplete.add(entry.split)

    def file(self, name: str, entry: FileEntry) -> None:
        """One other file and its copy."""
        self._count(entry.num_bytes)
        for path in (name, copy_path(name)):
            for problem in self._differences(path, entry):
                self._add(path, problem)

    def totals_and_sealed_files(self) -> None:
        """What the manifest says of all shards, and the files that carry digests of their own, with their copies."""
        if self.full:
            for problem in self.totals.problems():
                self.report.add(MANIFEST_NAME, f"{self.folder / MANIFEST_NAME}: {problem}; {REMEDY}")
        data = (self.folder / MANIFEST_NAME).read_bytes()
        self._sealed(MANIFEST_NAME, data)
        self._copy(MANIFEST_NAME, data)
        if (self.folder / PROVENANCE_NAME).is_file():
            data = (self.folder / PROVENANCE_NAME).read_bytes()
            if self._sealed(PROVENANCE_NAME, data):
                self._copy(PROVENANCE_NAME, data)
        elif (self.folder / copy_path(PROVENANCE_NAME)).is_file():
            self._add(PROVENANCE_NAME, "missing, though there is a copy")

    def _add(self, name: str, problem: str) -> None:
        remedy = f"`cdl repair {self.folder}` restores it from its copy"
        if name.startswith(f"{COPY_FOLDER}/"):
            remedy = f"`cdl repair {self.folder}` makes it again"
        self.report.add(name, f"{self.folder / name}: {problem}; {remedy}")

    def _count(self, num_bytes: int) -> None:
        self.report.num_files += 1
        self.report.num_bytes += num_bytes

    def _differences(self, name: str, entry: ShardEntry | FileEntry) -> list[str]:
        """Where a file is not what its entry says, in words."""
        path = self.folder / name
        if not path.is_file():
            return ["missing, though the manifest lists it"]
        if (size := path.stat().st_size) != entry.num_bytes:
            return [f"{size} bytes, expected {entry.num_bytes}"]
        if self.full and (found := sha256_file(path)) != entry.sha256:
            return [f"SHA-256 is {found[:12]}…, expected {entry.sha256[:12]}…"]
        return []

    def _sealed(self, name: str, data: bytes) -> bool:
        """Note it if a sealed file is not intact or, in full, not laid out as it was written; whether it is intact."""
        try:
            fields = parse_json_with_digest(data, origin=str(self.folder / name))
        except DamagedError as error:
            self._add(name, str(error).removesuffix(f"; {REMEDY}").removeprefix(f"{self.folder / name}: "))
            return False
        if self.full and encode_json_with_digest(fields) != data:
            self._add(name, "not laid out as it was written")
            return False
        return True

    def _copy(self, name: str, data: bytes) -> None:
        """Note it if the copy of a sealed file is missing or, in full, another one."""
        path = self.folder / copy_path(name)
        if not path.is_file():
            self._add(copy_path(name), "missing")
        elif (size := path.stat().st_size) != len(data):
            self._add(copy_path(name), f"{size} bytes, expected {len(data)}")
        elif self.full and path.read_bytes() != data:
            self._add(copy_path(name), f"differs from {name}")

    def _samples(self, shard: str, keys: dict[int, str]) -> str:
        """Note damaged samples, `keys` by row as the shard has them; returns the first few in words."""
        ledger = self._whole_ledger
        known = keys | (ledger_keys(ledger, shard, keys) if ledger else {})
        self.report.damaged_samples += [DamagedSample(shard, row, known[row]) for row in keys]
        texts = [f"row {row}: {known[row]!r}" for row in list(keys)[:NAMED_SAMPLES]]
        return ", ".join(texts) + (", …" if len(keys) > NAMED_SAMPLES else "")

    @cached_property
    def _whole_ledger(self) -> Path | None:
        """The ledger, or its copy, whichever is what the manifest says."""
        entry = self.manifest.files.get(LEDGER_NAME)
        if entry is None:
            return None
        paths = (self.folder / LEDGER_NAME, self.folder / copy_path(LEDGER_NAME))
        return next((path for path in paths if path.is_file() and sha256_file(path) == entry.sha256), None)


HUB_NAMES = ("README.md", ".gitattributes")
"""A card and Git's attributes, as repositories of data sets have them: text about the data set and no part of it."""


def _stray_files(folder: Path, manifest: Manifest) -> Iterable[str]:
    """Files that nothing lists; an unfinished job's `_work` is left alone."""
    single = [MANIFEST_NAME, PROVENANCE_NAME, *manifest.files]
    copies = (copy_path(name) for name in single)
    listed = {*(entry.name for entry in manifest.shards), *single, *copies, *HUB_NAMES}
    for parent, folders, names in os.walk(folder):
        if Path(parent) == folder and WORK_NAME in folders:
            folders.remove(WORK_NAME)
        folders.sort()
        relative = [(Path(parent) / name).relative_to(folder).as_posix() for name in sorted(names)]
        yield from (name for name in relative if name not in listed)
