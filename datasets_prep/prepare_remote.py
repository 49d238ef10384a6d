"""`cdl prepare --out s3://…`: a job in a local work folder, whose finished files go to an address, the manifest last.

Object stores have no rename and no append, so every file is put there whole, in one step. Plan, records and locks
stay in the work folder; what has been put is noted there, too, by name and SHA-256, so that an interrupted job puts
only the rest, and a shard that changed once more (duplicates left out) is put again. So is what the address has lost.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.output import CODEC_FOLDER, require_same
from datasets_prep.job.plan import Plan, difference_from_finished
from datasets_prep.job.plan_job import plan_job
from datasets_prep.job.progress import Progress
from datasets_prep.prepare_local import prepare
from datasets_prep.sources.core.source import Source
from datasets_prep.sources.core.streaming_source import StreamingSource
from datasets_prep.streaming.plan_stream import plan_stream
from datasets_prep.upkeep.extension import require_folder
from walloc_cdl.addresses import WEB_SCHEMES, url_scheme
from walloc_cdl.canonical import sha256_file, sha256_hex
from walloc_cdl.codec import Codec
from walloc_cdl.data import RemoteFolder
from walloc_cdl.data.cache import default_folder
from walloc_cdl.errors import CallError
from walloc_cdl.fields import sanitize_path_part
from walloc_cdl.files import foreign_names, remove_temporaries, write_atomic
from walloc_cdl.latents import (
    COPY_FOLDER,
    LEDGER_NAME,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    PROVENANCE_NAME,
    Manifest,
    copy_path,
    parse_manifest,
)

ANOTHER_ADDRESS = "give another address, or --restart to remove what is there and begin anew"

SET_FOLDER = "set"
PUT_FOLDER = "put"
ADDRESS_NAME = "address"
"""In the work folder: whose it is; written first and removed last."""


def prepare_to(
    source: Source | StreamingSource,
    codec: Codec,
    address: str,
    config: PrepareConfig | None = None,
    *,
    work: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Manifest | None:
    """`prepare`, with a data set behind an address that fsspec can write to in place of a folder.

    The folder `work`, by default one in the cache for each address, must have room for the whole data set; it must be
    new or empty, and what the job made in it is removed at the end. Each shard is put when it is done, so that little
    is left to put then. Slices of a job must share it. Raises as `prepare` does, `CallError` for an address or a work
    folder that holds anything else, and `JobError` where it cannot be written; the same call again goes on.
    """
    config = config or PrepareConfig()
    if config.extend:
        require_folder(address)
    require_writable(address)
    remote = RemoteFolder(address)
    work = default_work(address) if work is None else work
    is_stream = isinstance(source, StreamingSource)
    plan = plan_stream(source, codec, config).plan if is_stream else plan_job(source, codec, config).plan
    uploads = _Uploads(remote, work)
    if config.restart:
        _claim(work, address)
        _remove_earlier(remote, uploads)
    if (finished := _finished(remote, plan)) is not None:
        if progress is not None:
            note = f"{address} is finished already; nothing to do"
            total = sum(finished.source["num_samples"].values())
            progress(Progress(total, total, 0, note=note))
        if _owner(work) == address:
            _discard(work)
        return finished
    _claim(work, address)

    def on_progress(state: Progress) -> None:
        if state.finished is not None:
            uploads.put(state.finished.entry.name, state.finished.entry.sha256)
        if progress is not None:
            progress(state)

    manifest = prepare(source, codec, work / SET_FOLDER, config, progress=on_progress)
    if manifest is None:
        return None
    listed = {entry.name: entry.sha256 for entry in manifest.shards}
    listed |= {name: entry.sha256 for name, entry in manifest.files.items()}
    listed |= {copy_path(name): entry.sha256 for name, entry in manifest.files.items()}
    for name in (
        copy_path(PROVENANCE_NAME),
        copy_path(MANIFEST_NAME),
        PROVENANCE_NAME,
        MANIFEST_NAME,
    ):  # the last of all
        listed[name] = sha256_file(work / SET_FOLDER / name)
    there = remote.names()
    for name, sha256 in listed.items():
        uploads.put(name, sha256, is_there=name in there)
    _discard(work)
    return manifest


def require_writable(address: str) -> None:
    """Raise `CallError` for an address of a protocol that takes no files, or not one by one."""
    if (scheme := url_scheme(address)) == "hf":
        raise CallError(f"{address}: prepare to a folder, then `cdl push` it, which makes one commit of it")
    if scheme in WEB_SCHEMES:
        raise CallError(f"{address}: web servers are read only; give a folder and copy it there, or s3:// or the like")


def default_work(address: str) -> Path:
    """The work folder of an address, in the user's cache."""
    return default_folder() / "prepare" / f"{sanitize_path_part(address)[-40:]}-{sha256_hex(address.encode())[:12]}"


def _claim(work: Path, address: str) -> None:
    """Make `work` the work folder of this address; `CallError` if it is another's, or holds anything of somebody's.

    Slices may do so at the same time: what they make there comes after the mark, which is looked for last.
    """
    if work.exists() and not work.is_dir():
        raise CallError(f"work folder {work} is a file; give a new or empty folder")
    found = foreign_names(work, set())
    owner = _owner(work)
    if owner is None and found:
        raise CallError(f"work folder {work} holds something else ({found[0]}); give a new or empty folder")
    if owner is None:
        work.mkdir(parents=True, exist_ok=True)
        write_atomic(work / ADDRESS_NAME, address.encode())
    elif owner != address:
        raise CallError(f"work folder {work} is that of {owner}; give {address} another")


def _owner(work: Path) -> str | None:
    """The address whose work folder this is; None if it is none's."""
    mark = work / ADDRESS_NAME
    return mark.read_text(encoding="utf-8", errors="replace") if mark.is_file() else None


def _discard(work: Path) -> None:
    """Remove what a job has made in its work folder, and the folder if nothing else is in it."""
    for name in (PUT_FOLDER, SET_FOLDER):
        shutil.rmtree(work / name, ignore_errors=True)
    remove_temporaries(work)
    (work / ADDRESS_NAME).unlink(missing_ok=True)
    with suppress(OSError):
        work.rmdir()


@dataclass(frozen=True)
class _Uploads:
    """Puts files of the work folder, each once."""

    remote: RemoteFolder
    work: Path

    def put(self, name: str, sha256: str, *, is_there: bool = True) -> None:
        """Put a file of this content, unless that was done already and a file of this name `is_there` still."""
        note = self.work / PUT_FOLDER / name
        if is_there and note.is_file() and note.read_text() == sha256:
            return
        self.remote.upload(name, self.work / SET_FOLDER / name)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(note, sha256.encode())

    def names(self) -> set[str]:
        """The files that have been put."""
        notes = self.work / PUT_FOLDER
        return {path.relative_to(notes).as_posix() for path in notes.rglob("*") if path.is_file()}


def _finished(remote: RemoteFolder, plan: Plan) -> Manifest | None:
    """The manifest of a data set that is there under this plan already.

    Raises `CallError` for one of another plan, and for an address that holds anything else.
    """
    there = remote.names()
    if MANIFEST_NAME in there:
        manifest = _load_manifest(remote)
        require_same(remote, "a finished data set", difference_from_finished(plan, manifest), ANOTHER_ADDRESS)
        return manifest
    ours = {*plan.shard_names(there), LEDGER_NAME, PROVENANCE_NAME}
    if foreign := sorted(name for name in there - ours if name.split("/")[0] not in (CODEC_FOLDER, COPY_FOLDER)):
        raise CallError(f"{remote} holds something else ({foreign[0]}); give an address with nothing behind it")
    return None


def _remove_earlier(remote: RemoteFolder, uploads: _Uploads) -> None:
    """Remove what an earlier job put, finished or not."""
    there = remote.names()
    names = uploads.names()
    if MANIFEST_NAME in there:
        manifest = _load_manifest(remote)
        single = {MANIFEST_NAME, PROVENANCE_NAME, *manifest.files}
        names |= {*(entry.name for entry in manifest.shards), *single, *map(copy_path, single)}
        remote.remove(MANIFEST_NAME)  # first of all: without it, this is no data set any more
    for name in sorted(there & names - {MANIFEST_NAME}):
        remote.remove(name)
    shutil.rmtree(uploads.work / PUT_FOLDER, ignore_errors=True)


def _load_manifest(remote: RemoteFolder) -> Manifest:
    return parse_manifest(remote.read(MANIFEST_NAME, MAX_MANIFEST_BYTES), origin=f"{remote}/{MANIFEST_NAME}")
