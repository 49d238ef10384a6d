"""Single files, or folders of them, to archives and back: `cdl codec encode` and `cdl codec decode`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datasets_prep.archives.codec_lookup import CodecLookup
from datasets_prep.archives.file_pairs import FilePair, pair_files
from datasets_prep.archives.signal import decode_signal, encode_signal
from datasets_prep.archives.signal_files import signal_files
from datasets_prep.encode.torch_settings import few_threads, full_precision
from walloc_cdl.codec import Codec
from walloc_cdl.errors import CallError, CdlError, DamagedError, SpecMismatchError
from walloc_cdl.files import write_atomic
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
    """What became of each file."""

    num_written: int = 0
    num_kept: int = 0
    """Files that were there already."""
    failures: dict[str, str] = field(default_factory=dict)
    """Path of a file that could not be used, and why not."""
    archive_bytes: int = 0
    """Of all archives, those that were kept included."""
    num_samples: int = 0
    """Pixels of all images, or samples in time of all sounds, whatever the number of channels."""
    kind: str = "image"
    """Of the signals."""

    @property
    def bits_per_sample(self) -> float | None:
        """Bits of archive, metadata included, for each pixel; None without files."""
        return 8 * self.archive_bytes / self.num_samples if self.num_samples else None

    def to_json(self) -> dict[str, Any]:
        """Plain values; bits for each pixel of an image are called bpp."""
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
class _Done:
    """One file that is there now."""

    archive_bytes: int
    signal_shape: tuple[int, ...]
    kept: bool


def encode_files(
    source: Path,
    out: Path,
    codec: Codec,
    *,
    container: str | None = None,
    overwrite: bool = False,
    on_file: OnFile | None = None,
) -> FilesReport:
    """Archive a file as the file `out`, or every file of a folder as `NAME.SUFFIX` in the folder `out`.

    Archives that are there are kept unless `overwrite` is true; such a folder may be half done. In a folder,
    files that cannot be used are reported and the others done; a single file's error is raised. Raises
    `CallError` for a wrong call and `SpecMismatchError` where an archive of another codec is in the way.
    """
    spec = codec.spec
    chosen = _container(source, out, container, spec)
    kind = signal_files(spec)
    pairs = pair_files(source, out, kind.suffixes, lambda name: name + chosen.suffixes[0])

    def encode(pair: FilePair) -> _Done:
        if pair.target.exists() and not overwrite:
            return _Done(pair.target.stat().st_size, _shape_of_kept(pair.target, spec), kept=True)
        signal = kind.read(pair.source, spec)
        data = encode_signal(signal, codec, spec, container=chosen.name)
        pair.target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(pair.target, data)
        return _Done(len(data), signal.shape, kept=False)

    return _for_each(pairs, encode, single=source.is_file(), on_file=on_file)


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

    Without `codec` it is looked up by what each archive records. Files that are there, and errors, are
    treated as by `encode_files`; `max_code_bytes` is that of `archive_from_bytes`.
    """
    lookup = CodecLookup(codec)
    suffixes = frozenset(suffix for container in CONTAINERS.values() for suffix in container.suffixes)

    def decoded_name(name: str) -> str:
        info = read_info((source / name).read_bytes(), origin=str(source / name))
        spec = info.spec if info else lookup.given(name)[1]
        return str(Path(name).with_suffix(signal_files(spec).default_suffix))

    pairs = pair_files(source, out, suffixes, decoded_name)

    def decode(pair: FilePair) -> _Done:
        data = pair.source.read_bytes()
        if pair.target.exists() and not overwrite:
            info = read_info(data, origin=str(pair.source))
            return _Done(len(data), info.signal_shape if info else (0, 0), kept=True)
        signal, spec = decode_signal(data, lookup, origin=str(pair.source), max_code_bytes=max_code_bytes)
        pair.target.parent.mkdir(parents=True, exist_ok=True)
        signal_files(spec).write(pair.target, signal, spec)
        return _Done(len(data), signal.shape, kept=False)

    return _for_each(pairs, decode, single=source.is_file(), on_file=on_file)


def _container(source: Path, out: Path, name: str | None, spec: LatentSpec) -> Container:
    """That of the option, of the file's name, or the default; the first two must agree for a single file."""
    if source.is_file():
        named = container_of_name(out)
        if name is not None and find_container(name) is not named:
            raise CallError(f"{out} is the name of a {named.name} file, but the container is {name}; leave one out")
        return named
    return find_container(name) if name else default_container(spec.kind)


def _shape_of_kept(path: Path, spec: LatentSpec) -> tuple[int, ...]:
    info = read_info(path.read_bytes(), origin=str(path))
    if info is None:
        raise CallError(f"{path} is there and is no archive; give another --out, or --overwrite to replace it")
    info.spec.require_equal(spec, name=str(path), other_name="the codec")
    return info.signal_shape


def _for_each(
    pairs: list[FilePair], work: Callable[[FilePair], _Done], *, single: bool, on_file: OnFile | None
) -> FilesReport:
    """Do `work` on every pair, several at a time in threads: a single file by all of torch's, of many each by few."""
    report = FilesReport()
    if single:
        with full_precision():
            try:
                _count(report, work(pairs[0]))
            except CdlError as error:
                raise _naming(error, pairs[0].source) from error
        return report

    def attempt(pair: FilePair) -> _Done | CdlError:
        try:
            return work(pair)
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


def _count(report: FilesReport, done: _Done) -> None:
    report.kind = "image" if len(done.signal_shape) == 3 else "audio"
    report.num_kept += done.kept
    report.num_written += not done.kept
    report.archive_bytes += done.archive_bytes
    report.num_samples += int(np.prod(done.signal_shape[1:]))


def _naming(error: CdlError, path: Path) -> CdlError:
    """The error with the path in its text, which reasons for a ledger lack."""
    if str(path) in str(error) or not isinstance(error, DamagedError):
        return error
    return DamagedError(f"{path}: {error}; give a file that can be read")


def describe_failures(failures: dict[str, str]) -> Iterable[str]:
    """A line for each failure, the path first."""
    return (reason if reason.startswith(path) else f"{path}: {reason}" for path, reason in failures.items())
