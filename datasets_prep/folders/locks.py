"""Who works on an output folder: one job, or several slices of one.

Locks are `flock`s, which the system drops with the process that holds them, however it ends; the file's
text only says whose they are.
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
    with _opened(work / FOLDER, name, shared=shared, wait=wait) as file:
        if file is None:
            raise CallError(
                f"{work.parent} is being worked on by {_holders(work / FOLDER, name)}; wait for it, stop it, or give "
                "another folder"
            )
        if not shared:
            _sign(file)
        yield


@contextmanager
def _opened(folder: Path, name: str, *, shared: bool, wait: bool) -> Iterator[IO[str] | None]:
    """The file with its lock; None if somebody has it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.lock"
        with path.open("a+", encoding="utf-8") as file:
            if not _lock(file, shared=shared, wait=wait):
                yield None
                return
            if not _was_removed(file, path):  # else by its last holder, and others lock the one that is there now
                yield file
                return


def _lock(file: IO[str], *, shared: bool, wait: bool) -> bool:
    """Whether the lock was had; where the system knows no such locks, it counts as had."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return True
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, mode if wait else mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # some network file systems have none
    return True


def _was_removed(file: IO[str], path: Path) -> bool:
    opened = os.fstat(file.fileno())
    return not opened.st_nlink and not (path.exists() and os.path.samestat(opened, path.stat()))


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
    texts = [_signature(folder / f"{each}.lock") for each in names if not _is_free(folder, each, shared=False)]
    return " and ".join(text for text in texts if text) or "another process"


def _is_free(folder: Path, name: str, *, shared: bool) -> bool:
    try:
        with (folder / f"{name}.lock").open("a+", encoding="utf-8") as file:
            return _lock(file, shared=shared, wait=False)
    except OSError:
        return True


def _signature(path: Path) -> str | None:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return f"process {fields['process']} on {fields['host']} since {fields['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None
