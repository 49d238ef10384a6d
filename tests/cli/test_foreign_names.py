"""Names that data bring along neither forge lines nor reach the terminal as commands, and no locale ends a command."""

from __future__ import annotations

import io
import os
import sys

import numpy as np
import pytest

from datasets_prep.hub import dataset_card
from tests.support.pictures import picture
from walloc_cdl.cli import console
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import load_manifest

FORGED = "b\x1b[31m\nshards    9, 9 GB\u202e|<i>$x$"
SHOWN = r"b\x1b[31m\nshards    9, 9 GB\u202e|<i>$x$"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set whose classes have such names."""
    from datasets_prep import PrepareConfig, open_source, prepare
    from walloc_cdl.codec import ResizeCodec, ResizeConfig

    root = tmp_path_factory.mktemp("names")
    for label in ("ä", FORGED):
        for number in range(2):
            path = root / "pho$tos|" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(number, 16, 16).save(path)
    codec = ResizeCodec(ResizeConfig(channels=3, factor=2, name="resize-rgb-4x"))
    prepare(open_source(f"imagefolder:{root / 'pho$tos|'}"), codec, root / "out", PrepareConfig(size=16, workers=0))
    return root / "out"


def test_a_report_has_the_lines_that_it_has(cdl, folder):
    answer = cdl("inspect", folder)
    assert answer.code == 0
    assert f": {SHOWN} 2, ä 2" in answer.out
    assert [line for line in answer.out.splitlines() if line.startswith("shards")] == [answer.out.splitlines()[-3]]
    assert not set("\x1b\u202e") & set(answer.out)


def test_an_error_is_one_line_of_text(refused, folder):
    text = refused("inspect", folder / "x\x1b]0;title\x07\n\u202ey")
    assert r"x\x1b]0;title\x07 \u202ey is not a data set" in text


def test_notes_tables_and_progress(capsys, monkeypatch):
    console.say("note \x1b[2J")
    console.table(["name", "n"], [[FORGED, "1"], ["b", "22"]])
    with console._bar("[/red]\x1b[2J", "[/samples]") as update:
        update(1, 2, details=["[/bold]\x1b[2J"])
    captured = capsys.readouterr()
    assert captured.err.startswith("note \\x1b[2J\n")
    assert captured.out.splitlines() == [
        f"{'name':<{len(SHOWN)}}   n",
        f"{SHOWN}   1",
        f"{'b':<{len(SHOWN)}}  22",
    ]


def test_what_the_encoding_of_the_output_lacks_is_escaped(monkeypatch, folder):
    from walloc_cdl.cli.app import run

    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert run(["inspect", str(folder)]) == 0
    sys.stdout.flush()
    assert rb"\xe4 2" in written.getvalue()


def test_markdown_and_pictures_of_a_data_set(cdl, folder, tmp_path):
    card = dataset_card(load_manifest(folder), "someone/names").decode()
    assert "Latents of pho\\$tos\\|, encoded" in card
    assert [line for line in card.splitlines() if "classes" in line] == [
        r"| classes | b\\x1b\[31m shards 9, 9 GB\\u202e\|\<i\>\$x\$, ä |"
    ]
    assert cdl("export", folder, "--to", "parquet", "--out", tmp_path / "parquet").code == 0
    assert "their source is pho\\$tos\\|. A byte" in (tmp_path / "parquet" / "README.md").read_text("utf-8")
    assert cdl("preview", folder, "--out", tmp_path / "a.png").code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux only")
def test_folders_whose_names_are_not_utf8(cdl, refused, tmp_path):
    photos = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    for number in range(4):
        path = os.path.join(photos, "ab"[number % 2], f"{number}.png")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        picture(number, 16, 16).save(path)
    common = ("--codec", "resize-rgb-4x", "--size", 16, "--workers", 0)
    answer = cdl("prepare", f"imagefolder:{photos}", *common, "--out", tmp_path / "out")
    assert answer.code == 0
    assert load_manifest(tmp_path / "out").source["name"] == r"caf\xe9"
    assert np.sum(open_latents(tmp_path / "out").labels) == 2
    os.rename(tmp_path / "out", photos + "2")
    for call in (("prepare", f"imagefolder:{photos}", *common, f"--out={photos}3"), ("inspect", photos + "2")):
        assert r"caf\udce9" in refused(*call)
    with pytest.raises(CallError, match="is not UTF-8; rename the folder, or name it by a link"):
        open_latents(photos + "2")
    assert not os.path.exists(photos + "3")
