"""`cdl prepare --out s3://…`: runs a job in a local work folder and uploads its finished files, the manifest last.

Object stores have neither rename nor locks, on which resuming relies, so that every file is uploaded complete, in one
step, and the work folder needs local space for the whole data set until it is done. Plan, records and locks stay in the
work folder. Uploads are recorded there, too, by name and SHA-256, so that a resumed job uploads only the rest. A shard
that has changed since (duplicates were removed) and a file that the address has lost are uploaded again.
"""

from __future__ import annotations

from collections.abc import Callable
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
from walloc_cdl.addresses import WEB_SCHEMES, local_path, url_scheme
from walloc_cdl.canonical import sha256_file, sha256_hex
from walloc_cdl.codec import Codec, codec_from_files
from walloc_cdl.codec.codec_files import FILE_NAMES as CODEC_FILES
from walloc_cdl.confinement import confined, require_no_links
from walloc_cdl.data import RemoteFolder
from walloc_cdl.data.cache import default_folder
from walloc_cdl.errors import CallError
from walloc_cdl.fields import sanitize_path_part
from walloc_cdl.files import (
    foreign_names,
    make_folder,
    remove_file,
    remove_folder,
    remove_temporaries,
    remove_tree,
    write_atomic,
)
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

ANOTHER_ADDRESS = "give another address, or --restart to remove what is there and start over"

SET_FOLDER = "set"
UPLOADED_FOLDER = "put"
ADDRESS_NAME = "address"
"""Name of a file in the work folder that holds its address; it is written first and removed last."""


def prepare_to(
    source: Source | StreamingSource,
    codec: Codec,
    address: str,
    config: PrepareConfig | None = None,
    *,
    work: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Manifest | None:
    """Encode `source` into a data set at an address that fsspec can write, as `prepare` does into a folder.

    The folder `work`, by default one in the cache for each address, needs space for the whole data set. It must be new
    or empty, and the job's files in it are removed at the end. Each shard is uploaded when it is done. Slices of a job
    must share the folder. Raises as `prepare` does, `CallError` for an address or a work folder that holds other files,
    and `JobError` if the address cannot be written; the same call resumes the job.
    """
    config = config or PrepareConfig()
    if config.extend:
        require_folder(address)
    require_writable(address)
    remote = RemoteFolder(address)
    work = default_work(address) if work is None else local_path(work)
    is_stream = isinstance(source, StreamingSource)
    plan = plan_stream(source, codec, config).plan if is_stream else plan_job(source, codec, config).plan
    uploads = _Uploads(remote, work)
    if config.restart:
        _open_work_folder(work, address)
        _remove_earlier(remote, uploads)
    if (finished := _finished(remote, plan)) is not None:
        if progress is not None:
            note = f"{address} is already finished; nothing to do"
            total = sum(finished.source.get("num_samples", {}).values())
            progress(Progress(total, total, 0, note=note))
        if _address_of(work) == address:
            _discard(work)
        return finished
    _open_work_folder(work, address)

    def on_progress(state: Progress) -> None:
        if state.finished is not None:
            uploads.upload(state.finished.entry.name, state.finished.entry.sha256)
        if progress is not None:
            progress(state)

    with confined(work):
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
        ):  # uploaded last
            listed[name] = sha256_file(work / SET_FOLDER / name)
        present = remote.names()
        for name, sha256 in listed.items():
            uploads.upload(name, sha256, is_present=name in present)
    _discard(work)
    return manifest


def require_writable(address: str) -> None:
    """Raise `CallError` for an address of a protocol that cannot write files, or not one at a time."""
    if (scheme := url_scheme(address)) == "hf":
        raise CallError(f"{address}: prepare into a folder, then `cdl push` it, which makes one commit of it")
    if scheme in WEB_SCHEMES:
        raise CallError(
            f"{address}: web servers are read-only; give a folder and copy it there, or an address such as s3://…"
        )


def work_set(address: str, work: Path | None = None) -> Path:
    """Open the work folder of an address as `prepare_to` does, and return the folder in it where the data set is made.

    Raises `CallError` for an address that cannot be written, and for a work folder of another address.
    """
    require_writable(address)
    work = default_work(address) if work is None else local_path(work)
    _open_work_folder(work, address)
    return work / SET_FOLDER


def finished_codec(address: str) -> Codec | None:
    """Return the codec of the data set that is finished at an address; None if there is none."""
    remote = RemoteFolder(address)
    if MANIFEST_NAME not in remote.names():
        return None
    manifest = _load_manifest(remote)
    names = [f"{CODEC_FOLDER}/{name}" for name in CODEC_FILES]
    files = {Path(name).name: remote.read(name, manifest.files[name].num_bytes) for name in names}
    return codec_from_files(files, origin=f"{remote}/{CODEC_FOLDER}")


def default_work(address: str) -> Path:
    """Return the default work folder of an address, in the user's cache."""
    return default_folder() / "prepare" / f"{sanitize_path_part(address)[-40:]}-{sha256_hex(address.encode())[:12]}"


def _open_work_folder(work: Path, address: str) -> None:
    """Make `work` the work folder of this address; raises `CallError` if it is another's or holds other files or links.

    Slices may do so concurrently: their files are created after the file with the address, which is checked last.
    """
    if work.exists() and not work.is_dir():
        raise CallError(f"work folder {work} is a file; give a new or empty folder")
    require_no_links(work)
    found = foreign_names(work, set())
    current = _address_of(work)
    if current is None and found:
        raise CallError(f"work folder {work} holds other files ({found[0]}); give a new or empty folder")
    if current is None:
        make_folder(work)
        write_atomic(work / ADDRESS_NAME, address.encode())
    elif current != address:
        raise CallError(f"work folder {work} is that of {current}; give {address} another one")


def _address_of(work: Path) -> str | None:
    """Return the address of a work folder; None if it has no address."""
    path = work / ADDRESS_NAME
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _discard(work: Path) -> None:
    """Remove a job's files from its work folder, and the folder if it is empty then."""
    for name in (UPLOADED_FOLDER, SET_FOLDER):
        remove_tree(work / name)
    remove_temporaries(work)
    remove_file(work / ADDRESS_NAME)
    remove_folder(work)


@dataclass(frozen=True)
class _Uploads:
    """Uploads files of the work folder, each once."""

    remote: RemoteFolder
    work: Path

    def upload(self, name: str, sha256: str, *, is_present: bool = True) -> None:
        """Upload a file, unless the same content has been uploaded before and a file of this name `is_present`."""
        record = self.work / UPLOADED_FOLDER / name
        if is_present and record.is_file() and record.read_text() == sha256:
            return
        self.remote.upload(name, self.work / SET_FOLDER / name)
        make_folder(record.parent)
        write_atomic(record, sha256.encode())

    def names(self) -> set[str]:
        """Return the names of the uploaded files."""
        records = self.work / UPLOADED_FOLDER
        return {path.relative_to(records).as_posix() for path in records.rglob("*") if path.is_file()}


def _finished(remote: RemoteFolder, plan: Plan) -> Manifest | None:
    """Return the manifest of a data set that is already finished at the address under this plan, or None.

    Raises `CallError` for a data set of another plan, and for an address that holds other files.
    """
    present = remote.names()
    if MANIFEST_NAME in present:
        manifest = _load_manifest(remote)
        require_same(remote, "a finished data set", difference_from_finished(plan, manifest), ANOTHER_ADDRESS)
        return manifest
    expected = {*plan.shard_names(present), LEDGER_NAME, PROVENANCE_NAME}
    if foreign := sorted(name for name in present - expected if name.split("/")[0] not in (CODEC_FOLDER, COPY_FOLDER)):
        raise CallError(f"{remote} holds other files ({foreign[0]}); give an address without files")
    return None


def _remove_earlier(remote: RemoteFolder, uploads: _Uploads) -> None:
    """Remove the uploaded files of an earlier job, finished or not."""
    present = remote.names()
    names = uploads.names()
    if MANIFEST_NAME in present:
        manifest = _load_manifest(remote)
        single = {MANIFEST_NAME, PROVENANCE_NAME, *manifest.files}
        names |= {*(entry.name for entry in manifest.shards), *single, *map(copy_path, single)}
        remote.remove(MANIFEST_NAME)  # first, since the rest is no data set without it
    for name in sorted(present & names - {MANIFEST_NAME}):
        remote.remove(name)
    remove_tree(uploads.work / UPLOADED_FOLDER)


def _load_manifest(remote: RemoteFolder) -> Manifest:
    return parse_manifest(remote.read(MANIFEST_NAME, MAX_MANIFEST_BYTES), origin=f"{remote}/{MANIFEST_NAME}")
