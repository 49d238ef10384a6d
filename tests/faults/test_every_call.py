"""Every call of the file system in a small job fails once; the same command then completes the job."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from datasets_prep import IterableSource, PrepareConfig, open_source, prepare
from datasets_prep.job import finish
from tests.support.faults import KINDS, Faults, KilledError
from tests.support.pictures import picture
from tests.support.trees import contents
from walloc_cdl.codec import ResizeCodec, ResizeConfig
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
        codec = ResizeCodec(ResizeConfig(channels=3, factor=4, name="resize-rgb-16x"))
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


@pytest.fixture(autouse=True)
def fitted_once(monkeypatch):
    """Compute everything that depends on the samples once: it is the same in every run, and takes most of the time."""
    for name in ("fit_synthesis", "flip_rate"):
        monkeypatch.setattr(finish, name, _once(getattr(finish, name)))


def _once(compute: Callable) -> Callable:
    results = []

    def computed(*arguments: object) -> object:
        if not results:
            results.append(compute(*arguments))
        return results[0]

    return computed


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("thorough", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_prepare(source, tmp_path, monkeypatch, name, kind, thorough):
    """If thorough, every call of the plain job fails, every 5th of a stream, and every 17th of jobs with mostly the
    same calls."""
    step = {"whole": 1, "of a stream": 5}.get(name, 17) if thorough else 97
    job = SmallJob(source, JOBS[name], streaming=name == "of a stream")
    undisturbed = tmp_path / "undisturbed"
    with monkeypatch.context() as patch:
        faults = Faults(patch, undisturbed, kind)
        job.run(undisturbed)
    expected, num_calls, num_whole = contents(undisturbed), faults.num_calls, 0
    assert num_calls > 90
    for first in range(0, num_calls, step):
        out = tmp_path / f"out{first}"
        with monkeypatch.context() as patch:
            faults = Faults(patch, out, kind)
            faults.first = first
            whole = job.run_with_fault(out, faults)
        num_whole += whole
        what = f"call {first}: {faults.failed}, {job.errors[-1:]}"
        assert faults.failed, what
        if (out / "manifest.json").is_file() and kind == "killed":
            assert verify(out, full=True).problems == [], what
        if not whole:
            job.run(out, job.position)
        assert contents(out) == expected, what
        assert verify(out, full=True).problems == [], what
        assert not [path for path in out.rglob("*") if path.name.startswith((".", "_"))], what
        shutil.rmtree(out)
    assert num_whole < 0.1 * num_calls / step + 1
    assert len(job.errors) == (0 if kind == "killed" else len(range(0, num_calls, step)) - num_whole)
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
