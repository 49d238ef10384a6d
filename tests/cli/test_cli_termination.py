"""SIGTERM ends every command with a line that says how to go on, and without unfinished files."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from walloc_cdl.cli.console import interruptible
from walloc_cdl.file_locks import locked_folder
from walloc_cdl.files import is_temporary

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")

LEFTOVERS = [".00.png.png.0123456789abcdef.tmp", ".mine.txt.0123456789abcdef.tmp"]


@pytest.fixture
def terminated(cdl, monkeypatch):
    """Run `cdl` with these arguments, and send it SIGTERM when it syncs its first file; then run it to its end."""

    def fail(*arguments: object) -> None:
        raise AssertionError("the command does not handle SIGTERM")

    previous = signal.signal(signal.SIGTERM, fail)

    def call(out: Path, *arguments: object, again: bool = True) -> None:
        sync, first, sent = os.fsync, threading.Lock(), []

        def terminate(descriptor: int) -> None:
            if first.acquire(blocking=False):
                sent.append("SIGTERM")
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)  # meanwhile the main thread raises, whichever thread writes
            sync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", terminate)
            answer = cdl(*arguments, "--out", out)
        for thread in threading.enumerate():  # which the end of a process waits for, too
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        assert (answer.code, sent) == (143, ["SIGTERM"]), answer.err
        assert answer.err.splitlines()[-1] == "cdl: terminated; run the same command again to resume"
        assert not [path for path in out.rglob("*") if is_temporary(path.name)]
        if again:
            answer = cdl(*arguments, "--out", out)
            assert answer.code == 0, answer.err
            assert not (out / "_work").exists()

    yield call
    assert signal.getsignal(signal.SIGTERM) is fail
    signal.signal(signal.SIGTERM, previous)


@pytest.fixture
def pictures(tmp_path) -> Path:
    (tmp_path / "pictures").mkdir()
    for number in range(6):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / "pictures" / f"{number:02d}.png")
    return tmp_path / "pictures"


def test_training(terminated, latents, tmp_path):
    terminated(tmp_path / "run", "train", latents, "--model", "test_resnet", "--epochs", 1, again=False)


def test_comparing(terminated, source, tmp_path):
    options = ("--conditions", "pixels-16,latents-16x", "--size", 64, "--model", "test_resnet", "--workers", 0)
    terminated(tmp_path / "comparison", "compare", source, *options, again=False)


def test_encoding_single_files(terminated, pictures, tmp_path):
    terminated(tmp_path / "out", "codec", "encode", pictures, "--codec", "resize-rgb-16x")
    terminated(tmp_path / "back", "codec", "decode", tmp_path / "out")
    single = tmp_path / "a.webp"
    terminated(single, "codec", "encode", pictures / "00.png", "--codec", "resize-rgb-16x")
    assert single.is_file()


def test_archives(terminated, latents, tmp_path):
    terminated(tmp_path / "archives", "export", latents, "--archive")
    terminated(tmp_path / "restored", "prepare", tmp_path / "archives", "--archive")


@pytest.mark.parametrize("in_use", [False, True])
def test_what_killed_calls_have_left_is_removed(cdl, pictures, tmp_path, in_use):
    """Files that have other names, or that another call may be writing, stay."""
    out = tmp_path / "out"
    out.mkdir()
    for name in LEFTOVERS:
        (out / name).write_text("unfinished")
    arguments = ("codec", "encode", pictures, "--codec", "resize-rgb-16x", "--container", "png", "--out", out)
    if in_use:
        with locked_folder(out, shared=True):
            assert cdl(*arguments).code == 0
    else:
        assert cdl(*arguments).code == 0
    assert sorted(path.name for path in out.glob(".*")) == LEFTOVERS[0 if in_use else 1 :]


def test_processes_that_are_forked_end_as_without_it():
    with interruptible():
        process = os.fork()
        if not process:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(process, 0)[1]) == signal.SIGTERM
