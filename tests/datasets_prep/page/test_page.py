"""The page of a data set: what it says, and what it reads."""

import re

import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.page import ledger
from datasets_prep.page.ledger import read_overview
from datasets_prep.page.render import render_page
from tests.support.pictures import picture
from walloc_cdl.codec import load_codec
from walloc_cdl.errors import CallError
from walloc_cdl.latents import load_manifest


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A source with a damaged file, a copy and a class whose name is a tag, and its data set."""
    root = tmp_path_factory.mktemp("page")
    for number in range(8):
        folder = root / "photos" / "train" / ("<i>cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture(number % 7, 70, 64).save(folder / f"{number}.png")
    (root / "photos/train/dog/broken.png").write_bytes(b"no image")
    source = open_source(f"imagefolder:{root / 'photos'}")
    prepare(source, load_codec("rgb").with_planes(96), root / "latents", PrepareConfig(size=64, workers=0))
    return source, root / "latents"


def test_what_the_page_says(made):
    source, folder = made
    text = render_page(folder, source=source, num=2)
    for part in (
        "768 bytes",
        "192 bytes",
        "48 bytes",
        "dB",
        "&lt;i&gt;cat",
        "broken.png",
        "train/dog/7.png",
        "codec id",
    ):
        assert part in text, part
    assert len(re.findall(r"<img ", text)) == 2 * 4
    assert "<i>cat" not in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "Of 9 samples of the source 8 are stored, 1 are not, and 1 have the content of another one." in text


def test_without_a_source_there_are_decoded_samples_only(made):
    text = render_page(made[1], num=2)
    assert len(re.findall(r"<img ", text)) == 2 * 3
    assert text == render_page(made[1], num=2)


def test_only_the_first_rows_of_a_ledger_are_listed(made, monkeypatch):
    monkeypatch.setattr(ledger, "SHOWN_ROWS", 0)
    found = read_overview(made[1], load_manifest(made[1]))
    assert (found.num_rows, found.num_duplicates, sum(found.reasons.values())) == (9, 1, 1)
    assert (found.omitted, found.duplicates) == ([], [])


def test_an_unknown_split_is_refused(made):
    with pytest.raises(CallError, match=r"split 'test' of .* does not exist; splits with samples: train"):
        render_page(made[1], split="test")
