"""What tests ask of a source."""

from __future__ import annotations

import numpy as np
import pytest

from datasets_prep import open_source
from datasets_prep.decode.images import load_pixels
from datasets_prep.samples.stored import Stored
from datasets_prep.sources import Source
from tests.support.pictures import encoded, picture
from walloc_cdl.errors import CallError


def keys(source: Source, split: str = "train") -> list[str]:
    return [source.key(split, index) for index in range(source.num_samples(split))]


def labels(source: Source, split: str = "train") -> list:
    return source.listing.splits[split].labels.tolist()


def assert_is_picture(stored: Stored, seed: int) -> None:
    np.testing.assert_array_equal(load_pixels(stored, 32, 3), load_pixels(encoded(picture(seed)), 32, 3))


def message(text: str) -> str:
    """Of the refusal to open what `text` names, which is one line and the caller's fault."""
    with pytest.raises(CallError) as caught:
        open_source(text)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)
