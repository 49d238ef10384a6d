"""One call at a time works in a folder; the others are refused, and never disturb it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from datasets_prep.archives.export import export_archives
from datasets_prep.archives.restore import import_archives
from datasets_prep.exports import export_latents
from datasets_prep.folders import locks
from datasets_prep.hub.pull import pull
from datasets_prep.job.output import remove_work
from datasets_prep.upkeep.edit import held
from datasets_prep.upkeep.merge import merge
from datasets_prep.upkeep.split import take_split
from tests.support.any_sets import write_any_set
from tests.support.paths import ROOT
from tests.support.pictures import picture
from tests.support.rival_jobs import REFUSALS
from tests.support.small_sets import make_spec
from tests.support.trees import all_files, contents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import LabelSpec, SampleLayout

LAYOUT = SampleLayout(make_spec(2), (2, 2, 3), LabelSpec("class", 3))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A data set, another one beside it, its archives, and itself at an address."""
    for seed, name in enumerate(("set", "other")):
        keys = {"train": [f"{seed} {row}.jpg" for row in range(5)], "test": [f"{seed} a.jpg"]}
        write_any_set(tmp_path / name, LAYOUT, {"train": [3, 2], "test": [1]}, seed=seed, keys=keys)
    export_archives(tmp_path / "set", tmp_path / "archives", container="png")
    fsspec.filesystem("memory").put(str(tmp_path / "set"), "/locked", recursive=True)
    return tmp_path / "set"


@pytest.fixture(autouse=True)
def _own_positions(monkeypatch):
    """fsspec's files in memory are one object with one position for all threads, as those of no server are."""
    open_shared = MemoryFileSystem._open

    def open_own(self, path, mode="rb", **options):
        file = open_shared(self, path, mode, **options)
        return io.BytesIO(file.getvalue()) if mode == "rb" else file

    monkeypatch.setattr(MemoryFileSystem, "_open", open_own)


COMMANDS: dict[str, Callable[[Path, Path], object]] = {
    "merge": lambda folder, out: merge([folder, folder.with_name("other")], out),
    "split": lambda folder, out: take_split(folder, "train", out),
    "export": lambda folder, out: export_latents(folder, out, "npy"),
    "archive": lambda folder, out: export_archives(folder, out, container="png"),
    "restore": lambda folder, out: import_archives(folder.with_name("archives"), out),
    "pull": lambda folder, out: pull("memory://locked", out),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_another_call_works_in(folder, tmp_path, command):
    out = tmp_path / "out"
    with locks.job_lock(out / "_work"):
        before = all_files(out)
        with pytest.raises(CallError, match=r"out is being worked on by process \d+ on .* since .*; wait for it, "):
            COMMANDS[command](folder, out)
        assert all_files(out) == before
    COMMANDS[command](folder, out)
    assert not (out / "_work").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_several_calls_at_once(folder, tmp_path, command):
    """Each either has the result, or is told who is at it; the folder is that of a single call."""
    COMMANDS[command](folder, tmp_path / "undisturbed")
    expected = contents(tmp_path / "undisturbed")
    num_done = 0
    for number in range(5):
        out = tmp_path / f"out{number}"
        outcomes = at_once(3, lambda out=out: COMMANDS[command](folder, out))
        refusals = [outcome for outcome in outcomes if outcome is not None]
        num_done += len(outcomes) - len(refusals)
        assert all("is being worked on by" in str(error) for error in refusals), refusals
        assert len(refusals) < 3
        assert contents(out) == expected
    assert num_done >= 5


def at_once(count: int, call: Callable[[], object]) -> list[BaseException | None]:
    """Call a function in so many threads at once; returns each one's error."""
    barrier, outcomes = threading.Barrier(count), []

    def run() -> None:
        barrier.wait()
        try:
            call()
            outcomes.append(None)
        except BaseException as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def job(out: Path) -> None:
    """What a job does with its work folder."""
    with locks.job_lock(out / "_work"):
        (out / "_work/plan.json").write_text("{}")
        with locks.planning_lock(out / "_work"):
            assert (out / "_work/plan.json").read_text() == "{}"
        remove_work(out)


def edit(out: Path) -> None:
    """What an edit does with it."""
    with held(out):
        (out / "_work/edit").mkdir()


@pytest.mark.parametrize("work", [job, edit])
def test_folders_that_end_while_others_begin(tmp_path, work):
    num_held = 0
    for _ in range(100):
        for error in at_once(3, lambda: work(tmp_path / "out")):
            assert error is None or "is being worked on by" in str(error), repr(error)
            num_held += error is None
    assert num_held >= 100
    assert not (tmp_path / "out/_work").exists()


def test_a_work_folder_that_another_call_has_begun_to_use_stays(tmp_path):
    work = tmp_path / "out/_work"
    with locks.job_lock(work):
        (work / "locks/slice-1-of-2.lock").touch()
        (work / "locks/other").touch()
        locks.remove_work(work)
        assert all_files(tmp_path) == {"out/_work/locks/other": b""}
    locks.remove_work(tmp_path / "absent")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_three_prepares_at_once(tmp_path):
    """None of them ever sees more than that another one is at it, however the others begin and end."""
    for number in range(6):
        path = tmp_path / "photos/train" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number, 20, 18).save(path)
    command = ["-m", "tests.support.rival_jobs", tmp_path / "photos", tmp_path, 5, 3]
    outcomes = json.loads(subprocess.check_output([sys.executable, *map(str, command)], cwd=ROOT, timeout=600))
    assert outcomes.pop("done") == 15
    assert {*outcomes} <= {*REFUSALS}
