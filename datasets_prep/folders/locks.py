"""Locks of an output folder, which one job or several slices of one job may hold.

The text of a lock's file only names the holder. On file systems without locks, every lock is treated as acquired.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from walloc_cdl.confinement import confined, require_no_links
from walloc_cdl.errors import CallError
from walloc_cdl.file_locks import LockState, lock, open_lock_file, open_locked
from walloc_cdl.files import remove_file, remove_folder, remove_tree
from walloc_cdl.json_files import parse_json
from walloc_cdl.schema import from_json

FOLDER = "locks"
JOB = "job"
MAX_SIGNATURE_CHARS = 1000


@contextmanager
def job_lock(work: Path) -> Iterator[None]:
    """Lock the output folder exclusively, and follow no link in it as long as it is locked.

    Raises `CallError`, naming the holder, if a job or a slice holds it, and for a folder with links in it.
    """
    with _locked(work, JOB, shared=False):
        yield


@contextmanager
def slice_lock(work: Path, name: str) -> Iterator[None]:
    """Lock one slice of the job, beside other slices; raises `CallError` as `job_lock` does."""
    with _locked(work, JOB, shared=True), _locked(work, f"slice-{name}", shared=False):
        yield


@contextmanager
def planning_lock(work: Path) -> Iterator[None]:
    """Wait for the lock under which a call examines the folder and writes the plan."""
    with _locked(work, "plan", shared=False, wait=True):
        yield


@contextmanager
def _locked(work: Path, name: str, *, shared: bool, wait: bool = False) -> Iterator[None]:
    if name == JOB:
        require_no_links(work.parent)
    with confined(work.parent), open_locked(_path(work / FOLDER, name), shared=shared, wait=wait) as (file, state):
        if state is LockState.TAKEN:
            raise CallError(
                f"{work.parent} is being worked on by {_holders(work / FOLDER, name)}; wait for it, stop it, or give "
                "another folder"
            )
        if not shared:
            _sign(file)
        yield


def remove_work(work: Path) -> None:
    """Remove a work folder, whose job lock the caller must hold, unless another call has begun to use it.

    The lock of the job goes last, since another call may hold the folder as soon as that is gone.
    """
    if not work.is_dir():
        return
    for path in sorted(work.iterdir()):
        if path.is_dir() and path.name != FOLDER:
            remove_tree(path)
        elif path.name != FOLDER:
            remove_file(path)
    locks = work / FOLDER
    for path in sorted(locks.glob("*.lock"), key=lambda path: path.stem == JOB):
        remove_file(path)
    remove_folder(locks)
    remove_folder(work)


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"


def _sign(file: IO[str]) -> None:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    file.truncate(0)
    file.write(json.dumps({"process": os.getpid(), "host": platform.node(), "since": since}))
    file.flush()


def _holders(folder: Path, name: str) -> str:
    """Return the holders of the lock `name`: the process that signed it, or the slices that share it."""
    names = (
        [path.stem for path in sorted(folder.glob("slice-*.lock"))] if _is_free(folder, name, shared=True) else [name]
    )
    texts = [_signature(_path(folder, each)) for each in names if not _is_free(folder, each, shared=False)]
    return " and ".join(text for text in texts if text) or "another process"


def _is_free(folder: Path, name: str, *, shared: bool) -> bool:
    try:
        with open_lock_file(_path(folder, name)) as file:
            return lock(file, shared=shared) is not LockState.TAKEN
    except OSError:
        return True


def _signature(path: Path) -> str | None:
    try:
        with open_lock_file(path) as file:
            file.seek(0)
            fields = parse_json(file.read(MAX_SIGNATURE_CHARS).encode("utf-8"))
        signature = from_json(_Signature, fields, str(path))
        return f"process {signature.process} on {signature.host} since {signature.since}"
    except (OSError, ValueError):  # a DamagedError is a ValueError
        return None


@dataclass(frozen=True)
class _Signature:
    process: int
    host: str
    since: str
