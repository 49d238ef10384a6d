"""Who works on an output folder: one job, or several slices of one.

The text of a lock's file only says whose it is. Where the system has no locks, they count as had.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from walloc_cdl.errors import CallError
from walloc_cdl.file_locks import LockState, lock, open_locked

FOLDER = "locks"
WHOLE = "job"


@contextmanager
def whole_job(work: Path) -> Iterator[None]:
    """Hold the output folder alone; `CallError`, naming the holder, if a job or a slice of one has it."""
    with _locked(work, WHOLE, shared=False):
        yield


@contextmanager
def slice_of_job(work: Path, name: str) -> Iterator[None]:
    """Hold one slice of the job, beside other slices; `CallError` if that slice, or all, is held."""
    with _locked(work, WHOLE, shared=True), _locked(work, f"slice-{name}", shared=False):
        yield


@contextmanager
def planning(work: Path) -> Iterator[None]:
    """Wait for the moment in which the folder is looked at and the plan written."""
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
    """Who holds the lock `name`: whoever signed it, or the slices that share it."""
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
        fields = json.loads(path.read_text(encoding="utf-8"))
        return f"process {fields['process']} on {fields['host']} since {fields['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None
