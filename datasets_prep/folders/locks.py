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

from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.file_locks import LockState, lock, open_locked
from walloc_cdl.json_files import read_json
from walloc_cdl.schema import from_json

FOLDER = "locks"
JOB = "job"


@contextmanager
def job_lock(work: Path) -> Iterator[None]:
    """Lock the output folder exclusively; raises `CallError`, naming the holder, if a job or a slice holds it."""
    with _locked(work, JOB, shared=False):
        yield


@contextmanager
def slice_lock(work: Path, name: str) -> Iterator[None]:
    """Lock one slice of the job, beside other slices; raises `CallError` if that slice, or the whole job, is locked."""
    with _locked(work, JOB, shared=True), _locked(work, f"slice-{name}", shared=False):
        yield


@contextmanager
def planning_lock(work: Path) -> Iterator[None]:
    """Wait for the lock under which a call examines the folder and writes the plan."""
    with _locked(work, "plan", shared=False, wait=True):
        yield


@contextmanager
def _locked(work: Path, name: str, *, shared: bool, wait: bool = False) -> Iterator[None]:
    with open_locked(_path(work / FOLDER, name), shared=shared, wait=wait) as (file, state):
        if state is LockState.TAKEN:
            raise CallError(
                f"{work.parent} is being worked on by {_holders(work / FOLDER, name)}; wait for it, stop it, or give "
                "another folder"
            )
        if not shared:
            _sign(file)
        yield


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
        with _path(folder, name).open("a+", encoding="utf-8") as file:
            return lock(file, shared=shared) is not LockState.TAKEN
    except OSError:
        return True


def _signature(path: Path) -> str | None:
    try:
        signature = from_json(_Signature, read_json(path, max_bytes=1 << 10), str(path))
        return f"process {signature.process} on {signature.host} since {signature.since}"
    except (OSError, DamagedError):
        return None


@dataclass(frozen=True)
class _Signature:
    process: int
    host: str
    since: str
