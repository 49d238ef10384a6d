from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pictures import picture
from walloc_cdl.codec import ResizeCodec, ResizeConfig


@pytest.fixture
def make_folder(tmp_path):
    """Build `NAME/[SPLIT/]CLASS/N.png` and return the folder."""

    def build(
        name: str = "photos", splits=("train", "test"), classes=("cat", "dog"), each: int = 6, mode="RGB"
    ) -> Path:
        root = tmp_path / name
        seed = 0
        for split in splits:
            for label in classes:
                folder = root / split / label
                folder.mkdir(parents=True)
                for number in range(each):
                    picture(seed, 40 + seed % 7, 36, mode).save(folder / f"{number:02d}.png")
                    seed += 1
        return root

    return build


@pytest.fixture
def rgb_codec():
    return ResizeCodec(ResizeConfig(channels=3, factor=4, name="resize-rgb-16x"))


@pytest.fixture
def gray_codec():
    return ResizeCodec(ResizeConfig(channels=1, factor=4, name="resize-gray-16x"))
