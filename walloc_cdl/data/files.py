"""Where the files of a data set come from: a folder here, or a remote one through the cache."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from walloc_cdl.addresses import is_address, local_path
from walloc_cdl.data.cache import FOLDER_VARIABLE, FileCache, default_bytes, default_folder
from walloc_cdl.data.remote import MissingFileError, RemoteFolder
from walloc_cdl.errors import CallError, DamagedError, JobError, system_reason
from walloc_cdl.fields import REMEDY
from walloc_cdl.latents import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    FileEntry,
    Manifest,
    Shard,
    ShardEntry,
    load_manifest,
    open_shard,
    parse_manifest,
)

FETCHES = 8
"""Files fetched at once."""
OPEN_ATTEMPTS = 5


class DataFiles(Protocol):
    """The files of one data set."""

    def load_manifest(self) -> Manifest:
        """The manifest, checked."""
        ...

    def open_shard(self, entry: ShardEntry, manifest: Manifest) -> Shard:
        """A shard, mapped and checked."""
        ...

    def path(self, name: str, entry: FileEntry | ShardEntry) -> Path:
        """Where a listed file lies on this machine; for a local folder, even if it is not there."""
        ...

    def fetch(self, entries: Sequence[ShardEntry], progress: Callable[[int, int], object] | None = None) -> None:
        """Bring shards to this machine, several at a time; nothing for a local folder."""
        ...


def open_files(
    location: str | os.PathLike[str], *, cache_dir: Path | str | None = None, cache_bytes: int | None = None
) -> DataFiles:
    """The files of the data set at a path or an address; nothing is read yet.

    Of addresses, files go through the cache in `cache_dir` (see `default_folder`), of at most `cache_bytes`.
    """
    if not is_address(location):
        return LocalFiles(local_path(location))
    limit = default_bytes() if cache_bytes is None else cache_bytes
    folder = default_folder() if cache_dir is None else Path(cache_dir)
    return CachedFiles(RemoteFolder(os.fspath(location)), FileCache(folder.absolute(), limit))


@dataclass(frozen=True)
class LocalFiles:
    """Those of a folder."""

    folder: Path

    def load_manifest(self) -> Manifest:
        """See `walloc_cdl.latents.load_manifest`."""
        return load_manifest(self.folder)

    def open_shard(self, entry: ShardEntry, manifest: Manifest) -> Shard:
        """See `walloc_cdl.latents.open_shard`."""
        return open_shard(self.folder / entry.name, entry, manifest.layout)

    def path(self, name: str, entry: FileEntry | ShardEntry) -> Path:
        """In the folder."""
        return self.folder / name

    def fetch(self, entries: Sequence[ShardEntry], progress: Callable[[int, int], object] | None = None) -> None:
        """They are here."""


@dataclass(frozen=True)
class CachedFiles:
    """Those of a remote folder, fetched whole when first needed, under the names of their content."""

    remote: RemoteFolder
    cache: FileCache

    def load_manifest(self) -> Manifest:
        """The manifest as it is now: it is small, and says which files are wanted, so it is never cached.

        Raises `CallError` for an address without one, `DamagedError` for a broken one, `JobError` where it cannot
        be read.
        """
        try:
            data = self.remote.read(MANIFEST_NAME, MAX_MANIFEST_BYTES)
        except MissingFileError as error:
            raise CallError(
                f"{self.remote} is no data set (it has no {MANIFEST_NAME}, or none that you may read); check the "
                "address, or log in where it is kept"
            ) from error
        return parse_manifest(data, origin=f"{self.remote}/{MANIFEST_NAME}")

    def open_shard(self, entry: ShardEntry, manifest: Manifest) -> Shard:
        """A shard, fetched if need be; the cache keeps it for as long as it is in use."""
        self.cache.hold(entry.sha256)
        try:
            for attempt in range(OPEN_ATTEMPTS):
                path = self.path(entry.name, entry)
                try:
                    shard = open_shard(path, entry, manifest.layout)
                    break
                except DamagedError:
                    if path.is_file() or attempt == OPEN_ATTEMPTS - 1:
                        raise  # otherwise another process has just removed it to make room
        except BaseException:
            self.cache.release(entry.sha256)
            raise
        # The last attempt has opened the shard or raised.
        weakref.finalize(shard, self.cache.release, entry.sha256).atexit = False  # pyrefly: ignore[unbound-name]
        return shard

    def path(self, name: str, entry: FileEntry | ShardEntry) -> Path:
        """In the cache, fetched and checked against size and SHA-256 if it was not there.

        Raises as `RemoteFolder.download` does, and `JobError` for a cache that cannot be written.
        """

        def download(file: BinaryIO) -> None:
            try:
                self.remote.download(name, file, num_bytes=entry.num_bytes, sha256=entry.sha256)
            except MissingFileError as error:
                raise DamagedError(f"{self.remote}/{name}: missing, though the manifest lists it; {REMEDY}") from error

        try:
            return self.cache.fetch(entry.sha256, entry.num_bytes, download)
        except OSError as error:
            raise JobError(
                f"{self.remote}/{name} cannot be kept in the cache {self.cache.folder} ({system_reason(error)}); "
                f"make room there, or name another folder (cache_dir, {FOLDER_VARIABLE})"
            ) from error

    def fetch(self, entries: Sequence[ShardEntry], progress: Callable[[int, int], object] | None = None) -> None:
        """Bring shards into the cache; `progress` is called with (done, total) numbers of shards."""
        threads = ThreadPoolExecutor(FETCHES, thread_name_prefix="latent-fetch")
        try:
            paths = threads.map(lambda entry: self.path(entry.name, entry), entries)
            for done, _ in enumerate(paths, start=1):
                if progress:
                    progress(done, len(entries))
        finally:
            threads.shutdown(wait=True, cancel_futures=True)

    def require_room(self, num_bytes: int, what: str) -> None:
        """Raise `CallError` unless so many bytes can lie in the cache at once."""
        if num_bytes > self.cache.max_bytes:
            raise CallError(
                f"{what} takes {num_bytes} bytes, more than the {self.cache.max_bytes} of the cache, and shuffling "
                "needs all of it at once; allow more (cache_bytes), or bring the data set here with `cdl pull`"
            )
