"""`~` is the home folder in every path of a command, also where a shell does not expand it, and in Python."""

from pathlib import Path
from typing import Annotated

import pytest
import typer

import classifiers
import datasets_prep
import walloc_cdl
from tests.support.pictures import picture
from tests.support.small_sets import write_small_set
from walloc_cdl.cli import command_tree
from walloc_cdl.codec.io.published import load_published
from walloc_cdl.errors import CallError
from walloc_cdl.latents import load_manifest, verify


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder, with the data set `set`; the current folder is another one."""
    folder = tmp_path / "home"
    (folder / "set").mkdir(parents=True)
    write_small_set(folder / "set", {"train": [3]})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    yield folder
    assert list(Path().iterdir()) == []  # nothing called ~


def write_pictures(folder):
    for number, label in enumerate(["a", "a", "b", "b"]):
        (folder / label).mkdir(parents=True, exist_ok=True)
        picture(number, 32).save(folder / label / f"{number}.png")


def test_every_path_of_a_command(home):
    """Whatever its option, and also in lists; other texts stay as they are."""
    given = {}

    def command(
        context: typer.Context,
        folder: Path,
        out: Annotated[Path, typer.Option()],
        text: str = "",
        more: Annotated[list[Path], typer.Option()] = [],  # noqa: B006
        absent: Path | None = None,
    ) -> None:
        """Keep the arguments."""
        given.update(folder=folder, out=out, text=text, more=more, absent=absent)

    built = command_tree._command("command", command)
    built(["~/a", "--out=~/b", "--text", "~/c", "--more=~/d", "--more", "e/~"], standalone_mode=False)
    assert given == {
        "folder": home / "a",
        "out": home / "b",
        "text": "~/c",
        "more": [home / "d", Path("e/~")],
        "absent": None,
    }


def test_commands_whose_folder_may_be_an_address(home, cdl):
    pictures = home / "pictures"
    write_pictures(pictures)
    for form in (["--out=~/made"], ["--out", "~/made"]):
        answer = cdl("prepare", "~/pictures", "--codec", "resize-rgb-16x", "--size", "32", "--workers", "0", *form)
        assert (answer.code, load_manifest(home / "made").splits.keys()) == (0, {"train"})
    assert cdl("verify", "~/made", "--json=~/report.json").code == 0
    assert (home / "report.json").is_file()


def test_python(home):
    assert len(walloc_cdl.open_latents("~/set")) == 3
    assert load_manifest("~/set").splits
    assert verify("~/set").problems == []
    codec = walloc_cdl.load_codec("resize-rgb-16x")
    codec.save_pretrained("~/codec")
    assert walloc_cdl.load_codec("~/codec").spec == codec.spec
    assert type(codec).from_pretrained("~/codec").spec == codec.spec
    write_pictures(home / "pictures")
    for source in ("~/pictures", "imagefolder:~/pictures"):
        config = datasets_prep.PrepareConfig(size=32, workers=0)
        datasets_prep.prepare(datasets_prep.open_source(source), codec, "~/made", config)
    assert load_manifest(home / "made").splits
    datasets_prep.contact_sheet("~/made")
    datasets_prep.encode_files("~/pictures", "~/archives", codec)
    assert len(list((home / "archives").rglob("*.*"))) == 4


def test_errors_name_the_home_folder(home):
    for call in (
        lambda: walloc_cdl.open_latents("~/none"),
        lambda: classifiers.load_classifier("~/none"),
        lambda: load_published("~/none/x.pth"),
        lambda: datasets_prep.open_source("~/none"),
    ):
        with pytest.raises(CallError, match=str(home)):
            call()


def test_the_cache(home, monkeypatch):
    from walloc_cdl.data.cache import default_folder

    monkeypatch.setenv("WALLOC_CDL_CACHE", "~/cache")
    assert default_folder() == home / "cache"
