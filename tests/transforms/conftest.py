"""A packed data set of smooth pictures with operators."""

import numpy as np
import pytest
from PIL import Image

from datasets_prep import PrepareConfig, open_source, prepare
from tests.support.operators import photos
from tests.support.planes import plane_codec


@pytest.fixture(scope="session")
def packed(tmp_path_factory):
    """The folder of a data set: 24 samples of two classes in train, 8 in test, latents of 12 × 12 positions."""
    folder = tmp_path_factory.mktemp("transforms")
    for split, count, seed in (("train", 24, 0), ("test", 8, 1)):
        for number, pixels in enumerate(photos(count, side=48, seed=seed)):
            path = folder / "source" / split / ("cat" if number % 2 else "dog") / f"{number}.png"
            path.parent.mkdir(exist_ok=True, parents=True)
            Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())).save(path)
    prepare(open_source(str(folder / "source")), plane_codec(), folder / "latents", PrepareConfig(size=48, workers=0))
    return folder / "latents"
