"""`cdl pull`: downloads a data set from the Hub, or from any URL, to a folder. The manifest is written last."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from datasets_prep.folders.derived_folder import FETCHED_NAME, derive
from datasets_prep.folders.verified_read import matches_entry
from datasets_prep.hub.repository import REPO_TYPE, hub_errors, list_files, require_repo_id
from walloc_cdl import retries
from walloc_cdl.addresses import is_address
from walloc_cdl.canonical import sha256_file
from walloc_cdl.data import RemoteFolder
from walloc_cdl.data.remote import MissingFileError
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.files import make_folder, move_file, open_atomic, remove_file, write_atomic
from walloc_cdl.latents import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    PROVENANCE_NAME,
    WORK_NAME,
    FileEntry,
    Manifest,
    ShardEntry,
    load_manifest,
    parse_manifest,
    write_manifest,
)
from walloc_cdl.latents.json_with_digest import parse_json_with_digest
from walloc_cdl.retries import Deadline

NUM_THREADS = 4
"""Number of files downloaded at the same time."""
MAX_PROVENANCE_BYTES = 1 << 20

OnFile = Callable[[int, int, int], object]
"""Called with the number of downloaded files, the total number of files, and the number of downloaded bytes."""

_HUB_ADDRESS = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?/?")


class Remote(Protocol):
    """A remote data set that can be downloaded."""

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return the content of a small file; raises `MissingFileError` if it does not exist."""
        ...

    def save(self, name: str, path: Path, entry: FileEntry | ShardEntry, work: Path) -> None:
        """Write a listed file to `path`, complete and verified, or not at all; `work`: folder for partial downloads.

        Raises `DamagedError` for a file that is missing or differs from the manifest.
        """
        ...


def pull(location: str, out: Path, *, revision: str | None = None, on_file: OnFile | None = None) -> Manifest:
    """Download the data set OWNER/NAME of the Hub, or the one at a URL, to the folder `out`.

    Each file must have the size and SHA-256 of its manifest entry. The same call again resumes an interrupted download,
    and does not change a complete folder. Raises `CallError` if there is no such data set, and for an `out` that holds
    anything else or that another process works on; `DamagedError` for files that differ from the manifest; `JobError`
    if the location cannot be reached.
    """
    remote = _open_remote(location, revision)
    try:
        data = remote.read(MANIFEST_NAME, MAX_MANIFEST_BYTES)
    except MissingFileError as error:
        raise CallError(
            f"{location} is not a data set of latents: it has no {MANIFEST_NAME}; check its name"
        ) from error
    manifest = parse_manifest(data, origin=f"{location}, {MANIFEST_NAME}")

    def find() -> Manifest | None:
        if not (out / MANIFEST_NAME).is_file():
            return None
        if load_manifest(out).to_json() != manifest.to_json():
            raise CallError(f"{out} holds another data set, or another version of it; give a new folder")
        return manifest

    state = {"job": "pull", "manifest": manifest.digest()}
    return derive(out, state, find, lambda: _download(remote, location, out, manifest, on_file))


def _download(remote: Remote, location: str, out: Path, manifest: Manifest, on_file: OnFile | None) -> Manifest:
    """Download all files; writes the manifest last, and returns it."""
    _fetch_all(remote, out, {entry.name: entry for entry in manifest.shards} | manifest.files, on_file)
    with suppress(MissingFileError):
        provenance = remote.read(PROVENANCE_NAME, MAX_PROVENANCE_BYTES)
        parse_json_with_digest(provenance, origin=f"{location}, {PROVENANCE_NAME}")
        write_atomic(out / PROVENANCE_NAME, provenance)
    write_manifest(out, manifest)
    return manifest


def _open_remote(location: str, revision: str | None) -> Remote:
    if match := _HUB_ADDRESS.fullmatch(location):
        return HubRemote.open(match[1], revision or match[2])
    if not is_address(location):
        return HubRemote.open(require_repo_id(location), revision)
    if revision is not None:
        raise CallError(f"--revision {revision} is for the Hub; {location} has none; omit it")
    return UrlRemote(RemoteFolder(location))


def _fetch_all(remote: Remote, out: Path, entries: dict[str, FileEntry | ShardEntry], on_file: OnFile | None) -> None:
    def fetch(item: tuple[str, FileEntry | ShardEntry]) -> int:
        name, entry = item
        path = out / name
        make_folder(path.parent)
        if not matches_entry(path, entry):
            remote.save(name, path, entry, out / WORK_NAME)
        return entry.num_bytes

    num_bytes = 0
    threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="pull")
    try:
        for done, size in enumerate(threads.map(fetch, entries.items()), start=1):
            num_bytes += size
            if on_file:
                on_file(done, len(entries), num_bytes)
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class UrlRemote:
    """A folder at a URL."""

    folder: RemoteFolder

    def read(self, name: str, max_bytes: int) -> bytes:
        """See `Remote.read`."""
        return self.folder.read(name, max_bytes)

    def save(self, name: str, path: Path, entry: FileEntry | ShardEntry, work: Path) -> None:
        """See `Remote.save`."""
        try:
            with open_atomic(path) as file:
                self.folder.download(name, file, num_bytes=entry.num_bytes, sha256=entry.sha256)
        except MissingFileError as error:
            raise _missing(f"{self.folder}/{name}") from error


@dataclass(frozen=True)
class HubRemote:
    """One commit of a repository. huggingface_hub downloads files, and resumes partial downloads."""

    repo_id: str
    commit: str
    files: dict[str, Any]
    """Maps paths to the Hub's metadata of the files."""

    @classmethod
    def open(cls, repo_id: str, revision: str | None) -> HubRemote:
        """Open the current commit of a branch, tag or commit id."""
        import huggingface_hub

        api = huggingface_hub.HfApi()

        def found() -> tuple[str, dict[str, Any]]:
            commit = api.dataset_info(repo_id, revision=revision).sha
            return commit, list_files(api, repo_id, commit)

        with hub_errors(repo_id):
            return cls(repo_id, *Deadline(retries.LISTING_S).call(found))

    def read(self, name: str, max_bytes: int) -> bytes:
        """See `Remote.read`."""
        if name not in self.files:
            raise MissingFileError(f"{self.repo_id} has no {name}")
        self._require_size(name, self.files[name].size <= max_bytes, f"at most {max_bytes}")
        with tempfile.TemporaryDirectory() as folder:
            return self._download(name, Path(folder)).read_bytes()

    def save(self, name: str, path: Path, entry: FileEntry | ShardEntry, work: Path) -> None:
        """See `Remote.save`."""
        if name not in self.files:
            raise _missing(f"{self.repo_id}, {name}")
        self._require_size(name, self.files[name].size == entry.num_bytes, str(entry.num_bytes))
        found = self._download(name, work / FETCHED_NAME)
        if (digest := sha256_file(found)) != entry.sha256:
            remove_file(found)
            raise DamagedError(
                f"{self.repo_id}, {name}: SHA-256 is {digest[:12]}…, expected {entry.sha256[:12]}…; run the same "
                "command again, and ask its owner to upload the file again if that does not help"
            )
        move_file(found, path)

    def _require_size(self, name: str, fits: bool, expected: str) -> None:
        if not fits:
            size = self.files[name].size
            raise DamagedError(
                f"{self.repo_id}, {name}: {size} bytes, expected {expected}; ask its owner to upload it again"
            )

    def _download(self, name: str, folder: Path) -> Path:
        import huggingface_hub

        def download() -> str:
            return huggingface_hub.hf_hub_download(
                self.repo_id, name, repo_type=REPO_TYPE, revision=self.commit, local_dir=folder
            )

        with hub_errors(self.repo_id):
            return Path(Deadline(retries.transfer_s(self.files[name].size)).call(download))


def _missing(location: str) -> DamagedError:
    return DamagedError(f"{location}: missing, though the manifest lists it; ask its owner to upload it again")
