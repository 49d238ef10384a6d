"""Every call of the file system in a small job fails once; the same command then completes the job.

Two things make that affordable. A job that is killed at a call leaves the folder as it was before the call, so that it
is killed only where the folder differs from that of the call before. And folders that interrupted jobs leave are
completed once for each state in which they are, however many calls lead to it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from datasets_prep import IterableSource, PrepareConfig, open_source, prepare
from datasets_prep.job import finish
from tests.support.every_call import RARELY, Completed, calls
from tests.support.faults import KINDS, Faults, KilledError
from tests.support.pictures import picture
from tests.support.planes import plane_codec
from tests.support.trees import contents
from walloc_cdl.codec import Codec, ResizeCodec, ResizeConfig
from walloc_cdl.errors import CdlError
from walloc_cdl.latents import verify

PLAIN = {"size": 16, "shard_samples": 3, "workers": 0}
ONE_OF_EACH = {**PLAIN, "drop_duplicates": True}
JOBS: dict[str, Sequence[PrepareConfig]] = {
    "whole": [PrepareConfig(**PLAIN)],
    "without duplicates": [PrepareConfig(**ONE_OF_EACH)],
    "of a stream": [PrepareConfig(**ONE_OF_EACH)],
    "in slices": [
        PrepareConfig(**ONE_OF_EACH, shards="1/2"),
        PrepareConfig(**ONE_OF_EACH, shards="2/2"),
        PrepareConfig(**ONE_OF_EACH, finish=True),
    ],
    "begun anew": [PrepareConfig(**PLAIN), PrepareConfig(**{**PLAIN, "shard_samples": 4}, restart=True)],
}


@dataclass
class SmallJob:
    """Calls of `prepare` in sequence, and the error that interrupted one of them."""

    source: Path
    configs: Sequence[PrepareConfig]
    streaming: bool = False
    errors: list[str] = field(default_factory=list)
    position: int = 0
    """Number of the call that was made last."""

    def run(self, out: Path, begin: int = 0) -> None:
        """Make the calls from that of number `begin` on."""
        codec = _packed() if self.streaming else ResizeCodec(ResizeConfig(channels=3, factor=4, name="resize-rgb-16x"))
        for position in range(begin, len(self.configs)):
            self.position = position
            source = _stream(self.source) if self.streaming else open_source(str(self.source))
            prepare(source, codec, out, self.configs[position])

    def run_with_fault(self, out: Path, faults: Faults) -> bool:
        """Whether it came to its end all the same."""
        try:
            self.run(out)
        except KilledError:
            assert faults.kind == "killed"
        except CdlError as error:
            self.errors.append(str(error))
        else:
            return True
        return False


@lru_cache
def _packed() -> Codec:
    """Return a codec whose codes are stored as bit planes."""
    return plane_codec().with_planes(20)


def _stream(folder: Path) -> IterableSource:
    """Return the images of a folder as a stream."""
    rows = [(path.read_bytes(), path.parent.name) for path in sorted(folder.rglob("*.png"))]
    return IterableSource(rows, name="photos", class_names=["cat", "dog"])


@pytest.fixture
def source(tmp_path) -> Path:
    """Five images in two classes, one of them a copy and one unusable."""
    for number in range(6):
        folder = tmp_path / "photos" / "train" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture(number, 20, 18).save(folder / f"{number}.png")
    shutil.copy(folder.parent / "cat/0.png", folder.parent / "dog/9.png")
    (folder / "1.png").write_bytes(b"no image")
    return tmp_path / "photos"


NUM_FITTED = 3
"""Fewer samples than there are, so that the choice matters."""


@pytest.fixture(autouse=True)
def fitted_once(monkeypatch):
    """Compute everything that depends on the samples once for the same samples, since it takes most of the time."""
    monkeypatch.setattr(finish, "num_synthesis_samples", lambda *_: NUM_FITTED)
    for name in ("fit_synthesis", "fit_operators", "flip_rate"):
        monkeypatch.setattr(finish, name, _once_each(getattr(finish, name)))


def _once_each(compute: Callable) -> Callable:
    """Return a function that computes once for each signals, its last argument."""
    results: dict[bytes, object] = {}

    def computed(*arguments: object) -> object:
        signals = arguments[-1] if isinstance(arguments[-1], list) else [arguments[-1]]
        key = b"".join(np.ascontiguousarray(each).tobytes() for each in signals)
        if key not in results:
            results[key] = compute(*arguments)
        return results[key]

    return computed


@pytest.fixture(autouse=True)
def nothing_synced(monkeypatch):
    """These tests cut no power."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("thorough", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_prepare(source, tmp_path, monkeypatch, name, kind, thorough):
    """If thorough, every call fails."""
    step = 1 if thorough else RARELY
    job = SmallJob(source, JOBS[name], streaming=name == "of a stream")
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    with monkeypatch.context() as patch:
        faults = Faults(patch, undisturbed, kind)
        job.run(undisturbed)
    completed, num_whole, stops = Completed(job.run, undisturbed), 0, calls(faults, kind, step, list(JOBS).index(name))
    assert faults.num_calls > 90
    for first in stops:
        with monkeypatch.context() as patch:
            faults = Faults(patch, out, kind)
            faults.first = first
            whole = job.run_with_fault(out, faults)
        num_whole += whole
        what = f"call {first}: {faults.failed}, {job.errors[-1:]}"
        assert faults.failed, what
        if (out / "manifest.json").is_file() and kind == "killed":
            assert verify(out, full=True).problems == [], what
        completed.check(out, job.position, whole, what)
        shutil.rmtree(out, ignore_errors=True)
    assert num_whole < 0.1 * len(stops) + 1
    assert len(job.errors) == (0 if kind == "killed" else len(stops) - num_whole)
    for error in job.errors:
        assert "\n" not in error
        assert "again" in error, error
        assert str(tmp_path) in error, error


def test_finish_makes_lost_shards_again(source, tmp_path):
    job, undisturbed, out = SmallJob(source, JOBS["in slices"]), tmp_path / "undisturbed", tmp_path / "out"
    job.run(undisturbed)
    SmallJob(source, JOBS["in slices"][:2]).run(out)
    (out / "train-00001.safetensors").unlink()
    job.run(out, begin=2)
    assert contents(out) == contents(undisturbed)
