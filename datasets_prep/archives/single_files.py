"""Converting single files, or folders of files, to archives and back: `cdl codec encode` and `cdl codec decode`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datasets_prep.archives.codec_lookup import CodecLookup
from datasets_prep.archives.file_pairs import FilePair, pair_files
from datasets_prep.archives.signal import decode_signal, encode_signal
from datasets_prep.archives.signal_files import signal_files
from datasets_prep.encode.torch_settings import few_threads, full_precision
from walloc_cdl.addresses import local_path
from walloc_cdl.codec import Codec
from walloc_cdl.confinement import confined
from walloc_cdl.errors import CallError, CdlError, DamagedError, SpecMismatchError
from walloc_cdl.file_locks import LockState, locked_folder
from walloc_cdl.files import make_folder, remove_temporaries, write_atomic
from walloc_cdl.latents.archive import (
    CONTAINERS,
    Container,
    container_of_name,
    default_container,
    find_container,
    read_info,
)
from walloc_cdl.machine import cpu_count
from walloc_cdl.spec import LatentSpec

OnFile = Callable[[int, int], object]
"""Called with (done, total) after each file."""


@dataclass
class FilesReport:
    """Outcome of `encode_files` or `decode_files`."""

    num_written: int = 0
    num_kept: int = 0
    """Number of files that existed already."""
    failures: dict[str, str] = field(default_factory=dict)
    """Paths of files that could not be used, and the reasons."""
    archive_bytes: int = 0
    """Size of all archives, including those that existed already."""
    num_samples: int = 0
    """Pixels of all images, or samples in time of all clips, independent of the number of channels."""
    kind: str = "image"
    """Kind of the signals."""

    @property
    def bits_per_sample(self) -> float | None:
        """Bits of the archives, metadata included, per pixel or sample; None without files."""
        return 8 * self.archive_bytes / self.num_samples if self.num_samples else None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; the bits per pixel of images are called `bpp`."""
        return {
            "num_written": self.num_written,
            "num_kept": self.num_kept,
            "num_failed": len(self.failures),
            "archive_bytes": self.archive_bytes,
            "num_samples": self.num_samples,
            "bpp" if self.kind == "image" else "bits_per_sample": self.bits_per_sample,
            "failures": self.failures,
        }


@dataclass(frozen=True)
class _Result:
    """Outcome of one file."""

    archive_bytes: int
    signal_shape: tuple[int, ...]
    existed: bool


def encode_files(
    source: Path,
    out: Path,
    codec: Codec,
    *,
    container: str | None = None,
    overwrite: bool = False,
    on_file: OnFile | None = None,
) -> FilesReport:
    """Encode a file to the archive `out`, or every file of a folder to `NAME.SUFFIX` in the folder `out`.

    Existing archives are kept unless `overwrite` is true, so the same call resumes an interrupted one. Files of a
    folder that cannot be used are reported, and the others are encoded; the error of a single file is raised. Raises
    `CallError` for invalid arguments and `SpecMismatchError` for an existing archive of another codec.
    """
    source, out, spec = local_path(source), local_path(out), codec.spec
    picture_format = _choose_container(source, out, container, spec)
    files = signal_files(spec)
    pairs = pair_files(source, out, files.suffixes, lambda name: name + picture_format.suffixes[0])

    def encode(pair: FilePair) -> _Result:
        if pair.target.exists() and not overwrite:
            return _Result(pair.target.stat().st_size, _signal_shape_of_archive(pair.target, spec), existed=True)
        signal = files.read(pair.source, spec)
        data = encode_signal(signal, codec, spec, container=picture_format.name)
        with _writing(pair.target):
            write_atomic(pair.target, data)
        return _Result(len(data), signal.shape, existed=False)

    with _working_in(source, out, pairs):
        return _process(pairs, encode, single=source.is_file(), on_file=on_file)


def decode_files(
    source: Path,
    out: Path,
    codec: Codec | None = None,
    *,
    overwrite: bool = False,
    max_code_bytes: int | None = None,
    on_file: OnFile | None = None,
) -> FilesReport:
    """Decode an archive to the file `out`, or every archive of a folder to `NAME.png` or `.wav` in the folder `out`.

    Without `codec`, the codec that each archive records is looked up. Existing files and errors are treated as by
    `encode_files`; see `archive_from_bytes` for `max_code_bytes`.
    """
    source, out, lookup = local_path(source), local_path(out), CodecLookup(codec)
    suffixes = frozenset(suffix for container in CONTAINERS.values() for suffix in container.suffixes)

    def decoded_name(name: str) -> str:
        info = read_info((source / name).read_bytes(), origin=str(source / name))
        spec = info.spec if info else lookup.given_codec(name)[1]
        return str(Path(name).with_suffix(signal_files(spec).default_suffix))

    pairs = pair_files(source, out, suffixes, decoded_name)

    def decode(pair: FilePair) -> _Result:
        data = pair.source.read_bytes()
        if pair.target.exists() and not overwrite:
            info = read_info(data, origin=str(pair.source))
            return _Result(len(data), info.signal_shape if info else (0, 0), existed=True)
        signal, spec = decode_signal(data, lookup, origin=str(pair.source), max_code_bytes=max_code_bytes)
        with _writing(pair.target):
            signal_files(spec).write(pair.target, signal, spec)
        return _Result(len(data), signal.shape, existed=False)

    with _working_in(source, out, pairs):
        return _process(pairs, decode, single=source.is_file(), on_file=on_file)


@contextmanager
def _working_in(source: Path, out: Path, pairs: list[FilePair]) -> Iterator[None]:
    """Remove what killed calls have left of these files, and follow no link in the output folder of a source folder."""
    with nullcontext() if source.is_file() else confined(out):
        names: dict[Path, set[str]] = {}
        for pair in pairs:
            names.setdefault(pair.target.parent, set()).add(pair.target.name)
        for folder in filter(Path.is_dir, names):
            with suppress(CallError), locked_folder(folder) as state:  # each file in a link's folder is refused later
                if state is LockState.HELD:  # no other call is writing there
                    remove_temporaries(folder, names[folder])
        yield


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Make the folder of a file, and show other calls that its temporary file is in use while the block runs."""
    make_folder(target.parent)
    with locked_folder(target.parent, shared=True, wait=True):
        yield


def _choose_container(source: Path, out: Path, name: str | None, spec: LatentSpec) -> Container:
    """Return the container of the option, of the name of a single file (both must agree), or the default."""
    if source.is_file():
        named = container_of_name(out)
        if name is not None and find_container(name) is not named:
            raise CallError(f"{out} is the name of a {named.name} file, but the container is {name}; omit it")
        return named
    return find_container(name) if name else default_container(spec.kind)


def _signal_shape_of_archive(path: Path, spec: LatentSpec) -> tuple[int, ...]:
    info = read_info(path.read_bytes(), origin=str(path))
    if info is None:
        raise CallError(f"{path} exists and is not an archive; give another --out, or --overwrite to replace it")
    info.spec.require_equal(spec, name=str(path), other_name="the codec")
    return info.signal_shape


def _process(
    pairs: list[FilePair], convert: Callable[[FilePair], _Result], *, single: bool, on_file: OnFile | None
) -> FilesReport:
    """Convert all pairs: a single file with all of torch's threads, several files in parallel with few threads each."""
    report = FilesReport()
    if single:
        with full_precision():
            try:
                _count(report, convert(pairs[0]))
            except CdlError as error:
                raise _with_path(error, pairs[0].source) from error
        return report

    def attempt(pair: FilePair) -> _Result | CdlError:
        try:
            return convert(pair)
        except SpecMismatchError:
            raise
        except CdlError as error:
            return error

    pool = ThreadPoolExecutor(cpu_count())
    try:
        with full_precision(), few_threads():
            for number, (pair, outcome) in enumerate(zip(pairs, pool.map(attempt, pairs), strict=True), start=1):
                if isinstance(outcome, CdlError):
                    report.failures[str(pair.source)] = str(outcome)
                else:
                    _count(report, outcome)
                if on_file:
                    on_file(number, len(pairs))
    finally:
        pool.shutdown(cancel_futures=True)
    return report


def _count(report: FilesReport, result: _Result) -> None:
    report.kind = "image" if len(result.signal_shape) == 3 else "audio"
    report.num_kept += result.existed
    report.num_written += not result.existed
    report.archive_bytes += result.archive_bytes
    report.num_samples += int(np.prod(result.signal_shape[1:]))


def _with_path(error: CdlError, path: Path) -> CdlError:
    """Return the error with the path in its message; the reasons that ledgers store do not contain it."""
    if str(path) in str(error) or not isinstance(error, DamagedError):
        return error
    return DamagedError(f"{path}: {error}; give a file that can be read")


def describe_failures(failures: dict[str, str]) -> Iterable[str]:
    """Return a line for each failure, which begins with the path."""
    return (reason if reason.startswith(path) else f"{path}: {reason}" for path, reason in failures.items())
