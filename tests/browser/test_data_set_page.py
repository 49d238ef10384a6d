"""The page of a data set in Chromium."""

import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.page.render import render_page
from tests.support.pictures import picture
from walloc_cdl.codec import load_codec


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    for number in range(6):
        label = folder / "photos" / ("cat", "dog")[number % 2]
        label.mkdir(parents=True, exist_ok=True)
        picture(number, 70, 64).save(label / f"{number}.png")
    (folder / "photos/cat/broken.png").write_bytes(b"no image")
    source = open_source(f"imagefolder:{folder / 'photos'}")
    prepare(source, load_codec("rgb").with_planes(96), folder / "latents", PrepareConfig(size=64, workers=0))
    path = folder / "page.html"
    path.write_text(render_page(folder / "latents", source=source, num=3), encoding="utf-8")
    return path.as_uri()


def test_it_is_loaded_and_fits_the_screen(page):
    pictures = page.evaluate("[...document.images].map(image => [image.complete, image.naturalWidth, image.alt])")
    assert len(pictures) == 3 * 4  # the source, all bytes, a quarter, a sixteenth
    assert all(complete and width > 0 and text for complete, width, text in pictures)
    assert page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth") <= 0
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_text("not an image").count() + page.get_by_text("broken.png").count() >= 1
