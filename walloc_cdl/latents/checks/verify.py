"""Verification that a data set is unchanged: fast, of everything except the codes, or full, of every byte."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from walloc_cdl.addresses import local_path
from walloc_cdl.canonical import sha256_file
from walloc_cdl.confinement import REMEDY as LINK_REMEDY
from walloc_cdl.confinement import describe_link, find_links, is_link
from walloc_cdl.errors import DamagedError
from walloc_cdl.fields import REMEDY
from walloc_cdl.json_files import MAX_JSON_BYTES, read_limited
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

MAX_LISTED_SAMPLES = 5
"""Maximum number of damaged samples in a shard's message; the report has all of them."""


@dataclass(frozen=True)
class DamagedSample:
    """A sample whose stored data have changed."""

    shard: str
    row: int
    key: str
    """From the ledger if it is undamaged; otherwise from the shard, where the key itself may be damaged."""


@dataclass
class VerifyReport:
    """Result of `verify`; the data set is undamaged if `problems` is empty."""

    problems: list[str] = field(default_factory=list)
    """One line each, which names the file."""
    damaged_files: list[str] = field(default_factory=list)
    """Relative paths of missing and damaged files, copies included, without repetition."""
    damaged_samples: list[DamagedSample] = field(default_factory=list)
    """Damaged samples, where the damage of a shard can be traced to samples."""
    num_files: int = 0
    """Number of files that the manifest lists."""
    num_bytes: int = 0
    """Total size of these files."""

    def add(self, name: str, problem: str) -> None:
        """Record a problem with the file of this relative path."""
        self.problems.append(problem)
        if name not in self.damaged_files:
            self.damaged_files.append(name)


def verify(
    folder: Path | str, *, full: bool = False, progress: Callable[[int, int], None] | None = None
) -> VerifyReport:
    """Check a data set against its manifest.

    The fast check covers the manifest's digest, the existence and size of every file and its copy, the structure and
    the index (everything except the codes) of every shard, the provenance's digest, files that nothing lists, and
    links, which no command follows when it changes a data set. The full check adds the SHA-256 of every file and copy,
    the CRC32C of every sample, byte and label ranges, histograms and class counts. `progress` is called with (done,
    total) after each file. Raises `CallError` if `folder` is not a data set.
    """
    folder = local_path(folder)
    report = VerifyReport()
    try:
        manifest = load_manifest(folder)
    except DamagedError as error:
        report.add(MANIFEST_NAME, str(error))
        _report_links(folder, report)
        return report
    check = _Check(folder, manifest, report, full)
    entries: list[ShardEntry | tuple[str, FileEntry]] = [*manifest.shards, *manifest.files.items()]
    for entry in entries:
        if isinstance(entry, ShardEntry):
            check.check_shard(entry)
        else:
            check.check_file(*entry)
        if progress:
            progress(report.num_files, len(entries))
    check.check_totals()
    check.check_json_files()
    for name in _stray_files(folder, manifest):
        report.problems.append(f"{folder / name}: not listed in the manifest; move it elsewhere")
    _report_links(folder, report)
    return report


def _report_links(folder: Path, report: VerifyReport) -> None:
    """Add all links, even if what they lead to is undamaged: it can change without the data set, and repair refuses."""
    for name in find_links(folder):
        path = folder / name
        report.problems.append(f"{path}: {describe_link(path)}, expected the file or folder itself; {LINK_REMEDY}")


@dataclass
class _Check:
    """State of one verification."""

    folder: Path
    manifest: Manifest
    report: VerifyReport
    full: bool

    @cached_property
    def totals(self) -> ContentTotals:
        return ContentTotals(self.manifest)

    def check_shard(self, entry: ShardEntry) -> None:
        """Check one shard; a damaged shard is still read, to list its damaged samples."""
        name, remedy = entry.name, f"`cdl repair {self.folder} --source SOURCE` encodes it again"
        self._count(entry.num_bytes)
        problems = [f"{self.folder / name}: {problem}" for problem in self._differences(name, entry)]
        try:
            shard = open_shard(self.folder / name, entry, self.manifest.layout)
            if not self.full and shard.index_sha256() != entry.index_sha256:
                problems.append(f"shard {self.folder / name}: labels, keys or checksums differ from the manifest's")
            if self.full:
                if (rows := damaged_rows(shard)).size:
                    samples = self._add_samples(name, dict(zip(rows.tolist(), shard.keys(rows), strict=True)))
                    problems.append(
                        f"shard {self.folder / name}: {rows.size} of {len(shard)} samples fail their CRC32C ({samples})"
                    )
                problems += [f"shard {self.folder / name}: {problem}" for problem in self.totals.add(shard, entry)]
        except DamagedShardError as error:
            sample = "" if error.row is None else f" ({self._add_samples(name, {error.row: '?'})})"
            problems.append(str(error).removesuffix(f"; {REMEDY}") + sample)
        except DamagedError as error:
            if not problems:  # a wrong size is reported already
                problems.append(str(error).removesuffix(f"; {REMEDY}"))
        for problem in problems:
            self.report.add(name, f"{problem}; {remedy}")
        if problems:
            self.totals.incomplete.add(entry.split)

    def check_file(self, name: str, entry: FileEntry) -> None:
        """Check a file that is not a shard, and its copy."""
        self._count(entry.num_bytes)
        for path in (name, copy_path(name)):
            for problem in self._differences(path, entry):
                self._add_problem(path, problem)

    def check_totals(self) -> None:
        """Check the manifest's totals over all shards, if the verification is full."""
        if self.full:
            for problem in self.totals.problems():
                self.report.add(MANIFEST_NAME, f"{self.folder / MANIFEST_NAME}: {problem}; {REMEDY}")

    def check_json_files(self) -> None:
        """Check the files that have a digest of their own, the manifest and the provenance, and their copies."""
        data = (self.folder / MANIFEST_NAME).read_bytes()
        self._check_json_file(MANIFEST_NAME, data)
        self._check_copy(MANIFEST_NAME, data)
        if (self.folder / PROVENANCE_NAME).is_file():
            try:
                data = read_limited(self.folder / PROVENANCE_NAME, MAX_JSON_BYTES)
            except DamagedError as error:
                self.report.add(PROVENANCE_NAME, str(error))
                return
            if self._check_json_file(PROVENANCE_NAME, data):
                self._check_copy(PROVENANCE_NAME, data)
        elif (self.folder / copy_path(PROVENANCE_NAME)).is_file():
            self._add_problem(PROVENANCE_NAME, "missing, though there is a copy")

    def _add_problem(self, name: str, problem: str) -> None:
        remedy = f"`cdl repair {self.folder}` restores it from its copy"
        if name.startswith(f"{COPY_FOLDER}/"):
            remedy = f"`cdl repair {self.folder}` makes it again"
        self.report.add(name, f"{self.folder / name}: {problem}; {remedy}")

    def _count(self, num_bytes: int) -> None:
        self.report.num_files += 1
        self.report.num_bytes += num_bytes

    def _differences(self, name: str, entry: ShardEntry | FileEntry) -> list[str]:
        """Describe how a file differs from its entry."""
        path = self.folder / name
        if not path.is_file():
            return ["missing, though the manifest lists it"]
        if (size := path.stat().st_size) != entry.num_bytes:
            return [f"{size} bytes, expected {entry.num_bytes}"]
        if self.full and (found := sha256_file(path)) != entry.sha256:
            return [f"SHA-256 is {found[:12]}…, expected {entry.sha256[:12]}…"]
        return []

    def _check_json_file(self, name: str, data: bytes) -> bool:
        """Check a file with a digest and, in a full verification, its formatting; returns whether it is undamaged."""
        try:
            fields = parse_json_with_digest(data, origin=str(self.folder / name))
        except DamagedError as error:
            self._add_problem(name, str(error).removesuffix(f"; {REMEDY}").removeprefix(f"{self.folder / name}: "))
            return False
        if self.full and encode_json_with_digest(fields) != data:
            self._add_problem(name, "its formatting has changed since it was written")
            return False
        return True

    def _check_copy(self, name: str, data: bytes) -> None:
        """Check that the copy of a file exists, has its size and, in a full verification, its content `data`."""
        path = self.folder / copy_path(name)
        if not path.is_file():
            self._add_problem(copy_path(name), "missing")
        elif (size := path.stat().st_size) != len(data):
            self._add_problem(copy_path(name), f"{size} bytes, expected {len(data)}")
        elif self.full and path.read_bytes() != data:
            self._add_problem(copy_path(name), f"differs from {name}")

    def _add_samples(self, shard: str, keys: dict[int, str]) -> str:
        """Add damaged samples to the report; `keys` are the shard's, by row. Returns a text that lists the first."""
        ledger = self._undamaged_ledger
        known = keys | (ledger_keys(ledger, shard, keys) if ledger else {})
        self.report.damaged_samples += [DamagedSample(shard, row, known[row]) for row in keys]
        texts = [f"row {row}: {known[row]!r}" for row in list(keys)[:MAX_LISTED_SAMPLES]]
        return ", ".join(texts) + (", …" if len(keys) > MAX_LISTED_SAMPLES else "")

    @cached_property
    def _undamaged_ledger(self) -> Path | None:
        """Path of the ledger or of its copy, the first with the hash in the manifest."""
        entry = self.manifest.files.get(LEDGER_NAME)
        if entry is None:
            return None
        paths = (self.folder / LEDGER_NAME, self.folder / copy_path(LEDGER_NAME))
        return next((path for path in paths if path.is_file() and sha256_file(path) == entry.sha256), None)


HUB_FILE_NAMES = ("README.md", ".gitattributes")
"""The card and Git attributes of a data set's repository: they describe the data set and are not part of it."""


def _stray_files(folder: Path, manifest: Manifest) -> Iterable[str]:
    """Yield the relative paths of files that nothing lists; the `_work` folder of an unfinished job is skipped."""
    copied = [MANIFEST_NAME, PROVENANCE_NAME, *manifest.files]
    copies = (copy_path(name) for name in copied)
    listed = {*(entry.name for entry in manifest.shards), *copied, *copies, *HUB_FILE_NAMES}
    for parent, folders, names in os.walk(folder):
        if Path(parent) == folder and WORK_NAME in folders:
            folders.remove(WORK_NAME)
        folders.sort()
        relative = [(Path(parent) / name).relative_to(folder).as_posix() for name in sorted(names)]
        yield from (name for name in relative if name not in listed and not is_link(folder / name))
