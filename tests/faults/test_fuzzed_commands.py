"""Whole commands on folders with an altered file: each ends with an exit code and one line, and changes no input."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import fake_hub
from tests.support.altered_folders import alter, replaced
from tests.support.pictures import picture
from tests.support.trees import all_files
from walloc_cdl.cli.app import run
from walloc_cdl.errors import CdlError
from walloc_cdl.latents import verify

LIMIT_S = 20.0
"""Of the CPU's time for one command; each takes about 0.1 s, and a comparison that trains again a few seconds."""
REPOSITORY = "someone/flowers"


@pytest.fixture(autouse=True)
def nothing_synced(monkeypatch):
    """These tests cut no power."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@dataclass
class Answer:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(capsys) -> Callable[..., Answer]:
    """Run `cdl` in this process; an exception that it does not catch fails the test, and so does a long delay."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        begin = time.process_time()
        code = run([str(argument) for argument in arguments])
        assert time.process_time() - begin < LIMIT_S
        return Answer(code, *capsys.readouterr())

    return call


def require_one_line(answer: Answer, what: str) -> None:
    """Fail unless a command succeeded, or ended with one line that says why not."""
    assert answer.code in (0, 1, 2), what
    assert "Traceback" not in answer.err + answer.out, what
    if answer.code:
        assert answer.err.strip().splitlines()[-1].startswith("cdl"), (what, answer)
        assert sum(line.startswith("cdl") for line in answer.err.splitlines()) == 1, (what, answer)
    else:
        assert not answer.err.startswith("cdl"), (what, answer)


COMPARED = ("--conditions", "pixels-32,latents-16x", "--model", "test_resnet", "--size", 32, "--seeds", 1)
PREPARED = ("--codec", "rgb-16x", "--size", 32, "--workers", 0)
ONE_EPOCH = ("--epochs", 1, "--batch-size", 4, "--threads", 1)


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A folder with photos, more photos, a data set of the former, a run on it, and a comparison."""
    root = tmp_path_factory.mktemp("commands")
    for number in range(16):
        folder = ("test" if number in range(10, 14) else "train") + ("/cat" if number % 2 else "/dog")
        for name in ("more/photos", "photos")[: 1 if number > 13 else 2]:
            (root / name / folder).mkdir(parents=True, exist_ok=True)
            picture(number, 40, 36).save(root / name / folder / f"{number:02d}.png")
    for name in ("more/photos", "photos"):
        (root / name / "train/cat/bad.png").write_bytes(b"no image")
    assert run(list(map(str, ("prepare", root / "photos", *PREPARED, "--out", root / "set")))) == 0
    train = ("train", root / "set", "--model", "test_resnet", "--out", root / "run", *ONE_EPOCH)
    assert run(list(map(str, train))) == 0
    return root


@pytest.fixture(scope="session")
def compared(made) -> Path:
    """The folder of a comparison."""
    call = ("compare", made / "photos", *COMPARED, *ONE_EPOCH, "--workers", 0, "--out", made / "compared")
    assert run(list(map(str, call))) == 0
    return made / "compared"


def stored(folder: Path) -> dict[str, bytes]:
    """The files of a data set, without those of an edit that is resumed by the same command."""
    return {name: data for name, data in all_files(folder).items() if not name.startswith("_work/")}


def is_whole(folder: Path) -> bool:
    """Whether a data set is undamaged."""
    try:
        return not verify(folder).problems
    except CdlError:
        return False


COUNTS = [pytest.param(12, id="some"), pytest.param(120, id="many", marks=pytest.mark.slow)]


def seeds(count: int) -> range:
    """The many are not those of the few."""
    return range(count) if count < 100 else range(100, 100 + count)


@pytest.mark.parametrize("command", ["merge", "split --only", "split --into", "extend"])
@pytest.mark.parametrize("count", COUNTS)
def test_edits(made, tmp_path, call, command, count):
    folder, out = tmp_path / "altered", tmp_path / "out"
    calls = {
        "merge": ("merge", folder, made / "set", "--prefix", "--out", out),
        "split --only": ("split", folder, "--only", "train", "--out", out),
        "split --into": ("split", folder, "--into", "train=0.5,extra=0.5", "--split", "train"),
        "extend": ("prepare", made / "more/photos", *PREPARED, "--extend", "--out", folder),
    }
    in_place, others, num_refused = command in ("split --into", "extend"), all_files(made / "set"), 0
    for seed in seeds(count):
        what = f"seed {seed}: {alter(replaced(folder, made / 'set'), random.Random(seed))}"
        before, was_whole = stored(folder), is_whole(folder)
        answer = call(*calls[command])
        require_one_line(answer, what)
        num_refused += answer.code != 0
        if answer.code or not in_place:
            assert stored(folder) == before, what
        if not in_place:
            assert all_files(made / "set") == others, what
        if answer.code == 0:
            assert is_whole(folder if in_place else out) or (in_place and not was_whole), what
        shutil.rmtree(out, ignore_errors=True)
    assert (count - 20) / 10 < num_refused < count


@pytest.mark.parametrize("count", COUNTS)
def test_push(made, tmp_path, call, monkeypatch, count):
    num_refused = 0
    with fake_hub.running(monkeypatch) as hub:
        for seed in seeds(count):
            folder = replaced(tmp_path / "set", made / "set")
            what = f"seed {seed}: {alter(folder, random.Random(seed))}"
            before = all_files(folder)
            hub.repositories.clear()
            answer = call("push", folder, REPOSITORY)
            require_one_line(answer, what)
            num_refused += answer.code != 0
            assert all_files(folder) == before, what
            if answer.code:  # nobody sees a part of it
                assert set(hub.repositories.get(REPOSITORY, {})) <= {".gitattributes"}, what
    assert (count - 20) / 10 < num_refused < count


@pytest.mark.parametrize("count", COUNTS)
def test_pull(made, tmp_path, call, monkeypatch, count):
    out, num_refused = tmp_path / "out", 0
    with fake_hub.running(monkeypatch) as hub:
        for seed in seeds(count):
            folder = replaced(tmp_path / "set", made / "set")
            what = f"seed {seed}: {alter(folder, random.Random(seed))}"
            hub.repositories[REPOSITORY] = all_files(folder)
            answer = call("pull", REPOSITORY, "--out", out)
            require_one_line(answer, what)
            num_refused += answer.code != 0
            assert hub.repositories[REPOSITORY] == all_files(folder), what
            assert (out / "manifest.json").exists() == (answer.code == 0), what
            shutil.rmtree(out, ignore_errors=True)
    assert (count - 20) / 10 < num_refused < count


@pytest.mark.parametrize("altered", ["run", "set"])
@pytest.mark.parametrize("count", COUNTS)
def test_evaluate(made, tmp_path, call, altered, count):
    num_refused = 0
    for seed in seeds(count):
        folders = {name: replaced(tmp_path / name, made / name) for name in ("run", "set")}
        what = f"seed {seed}: {alter(folders[altered], random.Random(seed))}"
        before = {name: all_files(folder) for name, folder in folders.items()}
        answer = call("evaluate", folders["run"], folders["set"])
        require_one_line(answer, what)
        num_refused += answer.code != 0
        assert {name: all_files(folder) for name, folder in folders.items()} == before, what
    assert (count - 20) / 10 < num_refused < count


@pytest.mark.slow
def test_compare(made, compared, tmp_path, call):
    """A comparison that has ended, or to which the end is missing, is begun again with an altered file."""
    before, results = all_files(made / "photos"), all_files(compared)
    num_refused = 0
    for seed in range(100, 130):
        draw = random.Random(seed)
        folder = replaced(tmp_path / "compared", compared)
        if seed % 2:
            (folder / "results.json").unlink()
        what = f"seed {seed}: {alter(folder, draw)}"
        answer = call("compare", made / "photos", *COMPARED, *ONE_EPOCH, "--workers", 0, "--out", folder)
        require_one_line(answer, what)
        num_refused += answer.code != 0
        assert all_files(made / "photos") == before, what
    assert all_files(compared) == results
    assert 5 < num_refused < 30
