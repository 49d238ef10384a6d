"""Access to the files of a data set, in a local folder, or in a remote one through the cache."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from walloc_cdl.addresses import is_address, local_path, utf8_path
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

PARALLEL_FETCHES = 8
"""Number of files that are fetched in parallel."""
OPEN_ATTEMPTS = 5


class DataFiles(Protocol):
    """The files of one data set."""

    def load_manifest(self) -> Manifest:
        """Returns the manifest, checked."""
        ...

    def open_shard(self, entry: ShardEntry, manifest: Manifest) -> Shard:
        """Returns a shard, memory-mapped and checked."""
        ...

    def path(self, name: str, entry: FileEntry | ShardEntry) -> Path:
        """Returns the local path of a file that the manifest lists; in a local folder the file may be absent."""
        ...

    def fetch(self, entries: Sequence[ShardEntry], progress: Callable[[int, int], object] | None = None) -> None:
        """Fetch shards to this machine, several in parallel; does nothing for a local folder."""
        ...


def open_files(
    location: str | os.PathLike[str], *, cache_dir: Path | str | None = None, cache_bytes: int | None = None
) -> DataFiles:
    """Returns access to the files of the data set at a path or an address, without reading any.

    The files of an address are kept in the cache in `cache_dir` (see `default_folder`) of at most `cache_bytes`.
    """
    if not is_address(location):
        return LocalFiles(utf8_path(location).absolute())  # also after a change of directory, and in a worker
    limit = default_bytes() if cache_bytes is None else cache_bytes
    folder = default_folder() if cache_dir is None else local_path(cache_dir)
    return CachedFiles(RemoteFolder(os.fspath(location)), FileCache(folder.absolute(), limit))


class LocalFiles:
    """The files of a local folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._manifest_state: tuple[int, ...] | None = None
        self._shards: dict[str, str] = {}
        """SHA-256 of every shard by name, as the manifest of that state lists them."""

    def load_manifest(self) -> Manifest:
        """See `walloc_cdl.latents.load_manifest`."""
        state = self._find_manifest()  # before it is read, so that a change in between is noticed later
        manifest = load_manifest(self.folder)
        self._shards = {entry.name: entry.sha256 for entry in manifest.shards}
        self._manifest_state = state
        return manifest

    def open_shard(self, entry: ShardEntry, manifest: Manifest) -> Shard:
        """Open a shard; see `walloc_cdl.latents.open_shard`.

        Raises `JobError` if the folder has become another data set since: its shard may look the same, but have other
        samples. The check follows the opening, since a job removes the manifest before it writes any shard. A shard
        that is open keeps its samples in any case, since shards are replaced as whole files.
        """
        try:
            shard = open_shard(self.folder / entry.name, entry, manifest.layout)
        except DamagedError:
            self._require_current(entry)  # another data set's shard is not damaged
            raise
        self._require_current(entry)
        return shard

    def _require_current(self, entry: ShardEntry) -> None:
        """Raise `JobError` unless the folder's manifest still lists this shard."""
        if (state := self._find_manifest()) is None:
            raise JobError(
                f"{self.folder} has lost its {MANIFEST_NAME} since it was opened, so it is being prepared or edited; "
                "open it again when that is done"
            )
        if state != self._manifest_state:
            self.load_manifest()
        if self._shards.get(entry.name) != entry.sha256:
            raise JobError(f"{self.folder} has changed since it was opened: {entry.name} is another one; open it again")

    def path(self, name: str, entry: FileEntry | ShardEntry) -> Path:
        """Returns the path in the folder."""
        return self.folder / name

    def fetch(self, entries: Sequence[ShardEntry], progress: Callable[[int, int], object] | None = None) -> None:
        """Do nothing: the files are local."""

    def _find_manifest(self) -> tuple[int, ...] | None:
        """Returns what changes whenever the manifest is replaced; None if there is none."""
        try:
            found = (self.folder / MANIFEST_NAME).stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class CachedFiles:
    """The files of a remote folder, fetched whole when they are first needed, and cached under their SHA-256."""

    remote: RemoteFolder
    cache: FileCache

    def load_manifest(self) -> Manifest:
        """Read the current manifest; it is never cached, since it says which files are current.

        Raises `CallError` for an address without a manifest, `DamagedError` for a broken one, `JobError` if it cannot
        be read.
        """
        try:
            data = self.remote.read(MANIFEST_NAME, MAX_MANIFEST_BYTES)
        except MissingFileError as error:
            raise CallError(
                f"{self.remote} is no data set (it has no {MANIFEST_NAME}, or none that you may read); check the "
                "address, or log in to the service"
            ) from error
        return parse_manifest(data, origin=f"{self.remote}/{MANIFEST_NAME}")

    def open_shard(self, entry: ShardEntry, manifest: Manifest) -> Shard:
        """Open a shard, fetching it if necessary; the cache keeps it as long as it is in use."""
        self.cache.hold(entry.sha256)
        try:
            for attempt in range(OPEN_ATTEMPTS):
                path = self.path(entry.name, entry)
                try:
                    shard = open_shard(path, entry, manifest.layout)
                    break
                except DamagedError:
                    if path.is_file() or attempt == OPEN_ATTEMPTS - 1:
                        raise  # if the file is gone, another process has removed it to make room
        except BaseException:
            self.cache.release(entry.sha256)
            raise
        # After the loop, the shard is open: the last attempt raises if it fails.
        weakref.finalize(shard, self.cache.release, entry.sha256).atexit = False  # pyrefly: ignore[unbound-name]
        return shard

    def path(self, name: str, entry: FileEntry | ShardEntry) -> Path:
        """Returns the path in the cache; fetches the file if necessary, and checks its size and SHA-256.

        Raises the errors of `RemoteFolder.download`, `CallError` for a file that exceeds the cache, and `JobError` if
        the cache cannot be written.
        """
        if entry.num_bytes > self.cache.max_bytes:
            raise CallError(
                f"{self.remote}/{name} has {entry.num_bytes} bytes, more than the {self.cache.max_bytes} of the cache; "
                "allow more (cache_bytes), or download the data set with `cdl pull`"
            )

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
        """Fetch shards into the cache; `progress` is called with the numbers (done, total) of shards."""
        threads = ThreadPoolExecutor(PARALLEL_FETCHES, thread_name_prefix="latent-fetch")
        try:
            paths = threads.map(lambda entry: self.path(entry.name, entry), entries)
            for done, _ in enumerate(paths, start=1):
                if progress:
                    progress(done, len(entries))
        finally:
            threads.shutdown(wait=True, cancel_futures=True)

    def require_room(self, num_bytes: int, subject: str) -> None:
        """Raise `CallError`, naming `subject`, if the cache cannot hold `num_bytes` at once."""
        if num_bytes > self.cache.max_bytes:
            raise CallError(
                f"{subject} takes {num_bytes} bytes, more than the {self.cache.max_bytes} of the cache, and shuffling "
                "needs all of it at once; allow more (cache_bytes), or download the data set with `cdl pull`"
            )
