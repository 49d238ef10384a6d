"""`cdl` in this process, and small sources, data sets and runs for its calls."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.pictures import picture
from walloc_cdl.cli.app import run


@dataclass
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def cdl(capsys):
    """Run `cdl` with these arguments; an exception that it does not catch fails the test."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Answer(code, *capsys.readouterr())

    return call


@pytest.fixture
def refused(cdl):
    """Run `cdl` with a call that must be refused in one line, exit code 2, nothing printed; returns the line."""

    def call(*arguments: object, code: int = 2) -> str:
        answer = cdl(*arguments)
        assert (answer.code, answer.out) == (code, "")
        assert answer.err.count("\n") == 1
        assert "Traceback" not in answer.err
        return answer.err.strip()

    return call


@pytest.fixture(scope="session")
def source(tmp_path_factory) -> Path:
    """Two classes, 16 images to train on and 8 to test on, a little larger than 64 pixels."""
    root = tmp_path_factory.mktemp("source") / "photos"
    seed = 0
    for split, each in (("train", 8), ("test", 4)):
        for label in ("cat", "dog"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(each):
                picture(seed, 72 + seed % 5, 66).save(folder / f"{number:02d}.png")
                seed += 1
    return root


@pytest.fixture(scope="session")
def prepared(source, tmp_path_factory):
    """Folder of the source's data set with a codec, prepared once; tests must not change it."""
    root = tmp_path_factory.mktemp("prepared")

    def folder(codec: str) -> Path:
        if not (root / codec).exists():
            call = ["prepare", str(source), "--codec", codec, "--out", str(root / codec), "--size", "64"]
            assert run([*call, "--workers", "0"]) == 0
        return root / codec

    return folder


@pytest.fixture
def latents(prepared) -> Path:
    return prepared("rgb-16x")


@pytest.fixture(scope="session")
def trained(prepared, tmp_path_factory) -> Path:
    """A run of one epoch on the latents."""
    out = tmp_path_factory.mktemp("trained") / "run"
    call = ["train", str(prepared("rgb-16x")), "--model", "test_resnet", "--out", str(out), "--epochs", "1"]
    assert run([*call, "--batch-size", "8"]) == 0
    return out


@pytest.fixture
def foreign(tmp_path) -> Path:
    """A folder with other files."""
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("Chapter 1")
    return folder
