"""`cdl push`: uploads a data set to the Hub in one commit, so that no reader sees an incomplete one.

`upload_large_folder` is not used: it commits while it uploads, in an order of its own, so that readers would see a
manifest without its shards, and it leaves its state in the folder of the data set. Here, contents are uploaded before
the commit, which can be resumed as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from datasets_prep.hub.card import CARD_NAME, dataset_card
from datasets_prep.hub.repository import REPO_TYPE, hub_errors, list_files, require_repo_id
from walloc_cdl import retries
from walloc_cdl.confinement import require_no_links
from walloc_cdl.errors import CallError, CdlError, DamagedError
from walloc_cdl.fields import REMEDY
from walloc_cdl.latents import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    PROVENANCE_NAME,
    FileEntry,
    Manifest,
    ShardEntry,
    copy_path,
    load_manifest,
    load_provenance,
    parse_manifest,
)
from walloc_cdl.retries import Deadline

OnFile = Callable[[int, int, int], object]
"""Called with the number of uploaded files, the total number of files, and the number of uploaded bytes."""

_REPOSITORY_FILES = (".gitattributes", CARD_NAME)
"""Files of a repository that do not belong to the data set."""


def push(
    folder: Path, repo_id: str, *, private: bool = False, revision: str | None = None, on_file: OnFile | None = None
) -> str:
    """Upload the data set `folder` to OWNER/NAME, which is created if necessary; returns the URL of the commit.

    Contents are uploaded first, each hashed and compared with the manifest. One commit at the end makes them visible,
    and removes files that only an earlier version has. The same call again skips uploaded contents. The card is the
    folder's README.md, or else the repository's, or else one generated from the manifest.

    Raises `CallError` for a folder that is not a data set or has links in it, a repository that holds anything else,
    and missing rights; `DamagedError` for a file that differs from the manifest; `JobError` if the Hub cannot be
    reached.
    """
    require_repo_id(repo_id)
    manifest = load_manifest(folder)
    require_no_links(folder)  # the card or the provenance could be any file of this machine
    load_provenance(folder)  # raises an error for an altered provenance
    listed: dict[str, FileEntry | ShardEntry] = {entry.name: entry for entry in manifest.shards} | manifest.files
    for name, entry in listed.items():
        _require_size(folder / name, entry.num_bytes)
    with hub_errors(repo_id), _no_progress_bars():
        import huggingface_hub

        api = huggingface_hub.HfApi()

        def open_repository() -> tuple[dict[str, Any], list[str]]:
            api.create_repo(repo_id, repo_type=REPO_TYPE, private=private or None, exist_ok=True)
            if revision is not None:
                api.create_branch(repo_id, branch=revision, repo_type=REPO_TYPE, exist_ok=True)
            remote = list_files(api, repo_id, revision)
            names = _names(manifest, with_provenance=_has_provenance(folder))
            return remote, _stale_names(api, repo_id, revision, remote, names)

        remote, stale = Deadline(retries.LISTING_S).call(open_repository)
        operations = _upload(api, folder, repo_id, revision, listed, remote, on_file)
        operations += [huggingface_hub.CommitOperationDelete(path_in_repo=name) for name in stale]
        small = _small_files(folder, repo_id, manifest, remote)
        operations += small
        num_bytes = sum(operation.upload_info.size for operation in small)
        commit = Deadline(retries.LISTING_S + retries.transfer_s(num_bytes)).call(
            lambda: api.create_commit(
                repo_id,
                operations,
                commit_message=f"Data set of {sum(split.num_samples for split in manifest.splits.values()):,} latents",
                repo_type=REPO_TYPE,
                revision=revision,
            )
        )
    return commit.commit_url


def _names(manifest: Manifest, *, with_provenance: bool) -> set[str]:
    """Return the paths of all files of a data set, including copies."""
    single = {MANIFEST_NAME, *manifest.files, *([PROVENANCE_NAME] if with_provenance else [])}
    return {*(entry.name for entry in manifest.shards), *single, *map(copy_path, single)}


def _has_provenance(folder: Path) -> bool:
    return (folder / PROVENANCE_NAME).is_file()


def _stale_names(api: Any, repo_id: str, revision: str | None, remote: dict[str, Any], names: set[str]) -> list[str]:
    """Return the files that only an earlier version of the data set has; raises `CallError` for any other files."""
    others = sorted(set(remote) - names - {*_REPOSITORY_FILES})
    if not others:
        return []
    earlier = _earlier_names(api, repo_id, revision) if MANIFEST_NAME in remote else set()
    if foreign := [name for name in others if name not in earlier]:
        raise CallError(f"{repo_id} holds other files ({foreign[0]}); give a new repository, or remove it there")
    return others


def _earlier_names(api: Any, repo_id: str, revision: str | None) -> set[str]:
    """Return the files of the data set whose manifest the repository has; an empty set if it cannot be parsed."""
    with tempfile.TemporaryDirectory() as folder:
        path = api.hf_hub_download(repo_id, MANIFEST_NAME, repo_type=REPO_TYPE, revision=revision, local_dir=folder)
        try:
            if Path(path).stat().st_size > MAX_MANIFEST_BYTES:
                return set()
            earlier = parse_manifest(Path(path).read_bytes(), origin=MANIFEST_NAME)
        except CdlError:
            return set()
    return _names(earlier, with_provenance=True)


def _upload(
    api: Any,
    folder: Path,
    repo_id: str,
    revision: str | None,
    listed: dict[str, FileEntry | ShardEntry],
    remote: dict[str, Any],
    on_file: OnFile | None,
) -> list[Any]:
    """Upload the contents that the repository does not have; returns the operations that add them in the commit."""
    from huggingface_hub import CommitOperationAdd

    operations, num_bytes = [], 0
    for done, (name, entry) in enumerate(listed.items(), start=1):
        lfs = getattr(remote.get(name), "lfs", None)
        if lfs is None or lfs.sha256 != entry.sha256:
            operation = CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name))
            if (found := operation.upload_info.sha256.hex()) != entry.sha256:
                raise DamagedError(
                    f"{folder / name}: SHA-256 is {found[:12]}…, expected {entry.sha256[:12]}…; {REMEDY}"
                )
            upload = partial(api.preupload_lfs_files, repo_id, [operation], repo_type=REPO_TYPE, revision=revision)
            Deadline(retries.transfer_s(entry.num_bytes)).call(upload)
            operations.append(operation)
        num_bytes += entry.num_bytes
        if on_file:
            on_file(done, len(listed), num_bytes)
    return operations


def _small_files(folder: Path, repo_id: str, manifest: Manifest, remote: dict[str, Any]) -> list[Any]:
    """Return operations for manifest, provenance, card, and copies, whose contents the Hub stores only once."""
    from huggingface_hub import CommitOperationAdd

    json_files = [MANIFEST_NAME, *([PROVENANCE_NAME] if _has_provenance(folder) else [])]
    sources = {name: folder / name for name in json_files} | {copy_path(name): folder / name for name in json_files}
    for name, entry in manifest.files.items():
        lfs = getattr(remote.get(copy_path(name)), "lfs", None)
        if lfs is None or lfs.sha256 != entry.sha256:
            sources[copy_path(name)] = folder / name
    if (folder / CARD_NAME).is_file():
        sources[CARD_NAME] = folder / CARD_NAME
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path)) for name, path in sources.items()]
    if CARD_NAME not in sources and CARD_NAME not in remote:
        operations.append(CommitOperationAdd(path_in_repo=CARD_NAME, path_or_fileobj=dataset_card(manifest, repo_id)))
    return operations


def _require_size(path: Path, expected: int) -> None:
    if not path.is_file():
        raise DamagedError(f"{path}: missing, though the manifest lists it; {REMEDY}")
    if (found := path.stat().st_size) != expected:
        raise DamagedError(f"{path}: {found} bytes, expected {expected}; {REMEDY}")


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Disable huggingface_hub's progress bars, one per file, which would interrupt the command's own."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
