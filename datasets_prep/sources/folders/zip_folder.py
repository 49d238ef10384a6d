"""Zip archives of images, local or at URLs, with the layouts of folders, read without unpacking them to a disk."""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import numpy as np

from datasets_prep.samples.locations import as_os_errors, last_part, open_binary
from datasets_prep.samples.origin import Origin
from datasets_prep.samples.stored import ZipMember
from datasets_prep.samples.zip_members import DEFLATED, STORED
from datasets_prep.sources.core.source import Source
from datasets_prep.sources.core.split_names import resembled_split
from datasets_prep.sources.folders.catalog import Catalog, FileKind, FoundFile, display_name, split_folders
from walloc_cdl.errors import CallError, one_line, system_reason

_Parts = tuple[bytes, ...]


class ZipFolder(Source):
    """The files of a zip archive, in the order of their paths, with the same keys as if it was unpacked to a folder.

    A folder that alone contains all files of the kind is not part of their paths, unless its name resembles that of a
    split or it is a class: it contains such files itself and is not called as the archive is.

    Raises `CallError` for an archive that cannot be read, one with encrypted files or files packed by another method
    than deflate, and in the cases of `FileFolder`.
    """

    def __init__(self, location: str, file_kind: FileKind, *, splits: bool | None = None, public: bool = False) -> None:
        """`location`: path or URL; `splits`: see `FileFolder`; `public`: see `FileSlice.public`."""
        self._location, self._public = location, public
        name = PurePosixPath(last_part(location.partition("?")[0])).stem
        infos = {parts: info for info in _directory(location, public) if (parts := _parts(info))}
        files = {parts: FoundFile(parts, info.file_size, _is_regular(info)) for parts, info in infos.items()}
        for parts, file in files.items():
            if file.has_suffix(file_kind.suffixes):
                _require_readable(infos[parts], location)
        wrapper = _wrapper([parts for parts, file in files.items() if file.has_suffix(file_kind.suffixes)], name)
        inner = {_below(parts, wrapper): info for parts, info in infos.items()}
        found = sorted(
            (FoundFile(parts, info.file_size, _is_regular(info)) for parts, info in inner.items()),
            key=lambda file: [display_name(part) for part in file.parts],
        )
        entries = sorted({(file.parts[0], len(file.parts) > 1) for file in found})
        tops = {file.parts[0] for file in found if file.has_suffix(file_kind.suffixes)}
        catalog = Catalog(file_kind, split_folders(location, entries, tops.__contains__, file_kind, splits))
        for file in found:
            catalog.add(file)
        super().__init__(name or "root", catalog.listing(location))
        places = {b"/".join(parts): info for parts, info in inner.items()}
        self._facts = {
            split: np.array([_facts(places[texts.raw(row)]) for row in range(len(texts))], np.int64)
            for split, texts in catalog.paths().items()
        }

    def read(self, split: str, index: int) -> ZipMember:
        """Return the location of the sample's file in the archive."""
        offset, num_bytes, packed_bytes, method, crc32 = map(int, self._facts[split][index])
        return ZipMember(
            self._location, offset, num_bytes, self._public, packed_bytes=packed_bytes, method=method, crc32=crc32
        )

    @property
    def origin(self) -> Origin:
        """See `Source.origin`."""
        return Origin("zip archive", (self._location,))


def _directory(location: str, public: bool) -> list[zipfile.ZipInfo]:
    try:
        with as_os_errors(), open_binary(location, public=public) as file:
            return _infos(lambda: zipfile.ZipFile(file).infolist(), location)
    except OSError as error:
        cause = system_reason(error)
        raise CallError(f"zip archive {location!r} cannot be read: {cause}; restore it, or check the URL") from error


def _infos(read: Callable[[], list[zipfile.ZipInfo]], location: str) -> list[zipfile.ZipInfo]:
    try:
        return read()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error, OverflowError) as error:
        cause = one_line(error, with_class=True)
        raise CallError(f"zip archive {location!r} cannot be read ({cause}); pack it again, or unpack it") from error


def _parts(info: zipfile.ZipInfo) -> _Parts:
    """Return the path of a file; () for a folder, a hidden file and one of macOS's own."""
    name = info.filename
    if info.create_system == 0 and "/" not in name:
        name = name.replace("\\", "/")  # as old programs for Windows write it
    parts = tuple(part.encode("utf-8", "surrogatepass") for part in name.split("/") if part not in ("", "."))
    if name.endswith("/") or not parts or parts[0] == b"__MACOSX":
        return ()
    return () if any(part.startswith(b".") and part != b".." for part in parts) else parts


def _is_regular(info: zipfile.ZipInfo) -> bool:
    """Return whether it is a file below the archive, by its path and by the type that Unix programs store."""
    mode = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
    return mode in (0, stat.S_IFREG) and ".." not in info.filename.replace("\\", "/").split("/")


def _require_readable(info: zipfile.ZipInfo, location: str) -> None:
    if info.flag_bits & 1:
        raise CallError(f"{info.filename[:100]!r} in {location!r} is encrypted; unpack the archive with its password")
    if info.compress_type not in (STORED, DEFLATED):
        method = zipfile.compressor_names.get(info.compress_type, f"method {info.compress_type}")
        raise CallError(
            f"{info.filename[:100]!r} in {location!r} is packed with {method}; expected deflate: unpack the archive"
        )


def _wrapper(paths: Sequence[_Parts], name: str) -> _Parts:
    """Return the folders that are not part of the paths of samples, the outermost first; see `ZipFolder`."""
    depth = 0
    while paths:
        tops = {parts[depth] for parts in paths}
        top = display_name(min(tops))
        if len(tops) > 1 or any(len(parts) == depth + 1 for parts in paths) or resembled_split(top):
            break
        if top != name and any(len(parts) == depth + 2 for parts in paths):
            break
        depth += 1
    return paths[0][:depth] if paths else ()


def _below(parts: _Parts, wrapper: _Parts) -> _Parts:
    """Return a path within the wrapper; a file outside of it, which is a stray, keeps its path behind `..`."""
    if parts[: len(wrapper)] == wrapper:
        return parts[len(wrapper) :]
    return (b"..", *parts)


def _facts(info: zipfile.ZipInfo) -> tuple[int, int, int, int, int]:
    return info.header_offset, info.file_size, info.compress_size, info.compress_type, info.CRC
