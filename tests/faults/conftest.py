"""A small source of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pictures import picture


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """160 images of two classes for training, 40 for testing, and a file that is not an image."""
    root = tmp_path_factory.mktemp("faults") / "photos"
    for number in range(200):
        split, label = "train" if number % 5 else "test", "cat" if number % 2 else "dog"
        folder = root / split / label
        folder.mkdir(parents=True, exist_ok=True)
        picture(number, 72, 66).save(folder / f"{number:03d}.png")
    (root / "train/cat/001.png").write_bytes(b"no image")
    return root
