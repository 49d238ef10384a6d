"""Jobs that get termination signals, and jobs with errors of the system."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from tests.support.commands import Command, count_files, wait_for_end
from tests.support.faults import Faults
from tests.support.pictures import picture
from tests.support.trees import contents
from walloc_cdl.codec import ResizeCodec, ResizeConfig
from walloc_cdl.errors import JobError
from walloc_cdl.latents import verify

CODEC = ResizeCodec(ResizeConfig(channels=3, factor=4, name="resize-rgb-16x"))
SMALL = PrepareConfig(size=16, shard_samples=3, workers=0)


@pytest.fixture
def small(tmp_path) -> Path:
    """Twelve images of one class."""
    folder = tmp_path / "small/train/cat"
    folder.mkdir(parents=True)
    for number in range(12):
        picture(number, 20, 18).save(folder / f"{number:02d}.png")
    return tmp_path / "small"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("number", "code", "text"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_termination_signals(photos, tmp_path, number, code, text):
    """A signal while shards are made, with two workers: the command prints one line and leaves neither an unfinished
    file nor a worker; the same command completes the job."""
    out = tmp_path / "out"
    options = ("--codec", "rgb-16x", "--size", 64, "--shard-samples", 4, "--workers", 2)
    job = Command(("prepare", photos, *options, "--out", out))
    process = job.start()
    deadline = time.monotonic() + 120
    while process.poll() is None and count_files(out) < 9:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert errors.splitlines()[-1] == f"cdl: {text}; run the same command again to resume"
    assert "Traceback" not in errors
    wait_for_end(process.pid)
    assert not (out / "manifest.json").exists()
    assert not list(out.rglob(".*"))
    assert list(out.glob("*.safetensors"))
    job.finish()
    assert verify(out, full=True).problems == []


def refusal(source: Path, out: Path, **options: object) -> str:
    with pytest.raises(JobError) as caught:
        prepare(open_source(str(source)), CODEC, out, SMALL, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_folder_can_be_made(small, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert refusal(small, tmp_path / "file/out").endswith(
        "Not a directory; give another folder, then run the same command again to continue"
    )


def test_the_disk_is_full(small, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        faults = Faults(patch, out, "disk full")
        faults.first = 20
        text = refusal(small, out)
    assert text.startswith(f"{out}/")
    assert text.endswith(": No space left on device; make room, then run the same command again to continue")
    prepare(open_source(str(small)), CODEC, out, SMALL)
    assert verify(out, full=True).problems == []


def test_the_source_vanishes(small, tmp_path):
    """Its samples are not quarantined: the job stops, and is resumed when the source is restored."""
    out, kept = tmp_path / "out", tmp_path / "kept"
    prepare(open_source(str(small)), CODEC, tmp_path / "undisturbed", SMALL)

    def vanish(progress: object) -> None:
        if small.exists() and list(out.glob("*.safetensors")):
            small.rename(kept)

    source = open_source(str(small))
    with pytest.raises(JobError) as caught:
        prepare(source, CODEC, out, SMALL, progress=vanish)
    assert "\n" not in str(caught.value)
    assert "run the same command again" in str(caught.value)
    shutil.move(kept, small)
    prepare(open_source(str(small)), CODEC, out, SMALL)
    assert contents(out) == contents(tmp_path / "undisturbed")
