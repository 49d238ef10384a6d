import pytest

from experiments.comparison.conditions import Storage, parse_condition
from walloc_cdl.errors import CallError


@pytest.mark.parametrize(
    ("text", "channels", "codec", "stem", "grid"),
    [
        ("pixels-64", 3, "resize-rgb-16x", "synthesis", None),
        ("pixels-64", 1, "resize-gray-16x", "synthesis", None),
        ("pixels-256", 3, "resize-rgb-1x", "synthesis", None),
        ("pixels-64@128", 3, "resize-rgb-16x", "synthesis", 128),
        ("latents-16x", 3, "rgb-16x", "synthesis", None),
        ("latents-4x", 1, "gray-4x", "synthesis", None),
        ("latents-16x@128", 3, "rgb-16x", "synthesis", 128),
        ("latents-16x:channels", 3, "rgb-16x", "channels", None),
        ("latents-16x@128:synthesis", 3, "rgb-16x", "synthesis", 128),
        ("latents-3072", 3, ("rgb", 3072), "synthesis", None),
        ("latents-768@96", 1, ("gray", 768), "synthesis", 96),
        ("latents-codecs/mine", 3, "codecs/mine", "synthesis", None),
        ("latents-codecs/mine@96", 3, "codecs/mine", "synthesis", 96),
    ],
)
def test_valid_conditions(text, channels, codec, stem, grid):
    condition = parse_condition(text, size=256, channels=channels)
    storage = Storage(codec) if isinstance(codec, str) else Storage(*codec)
    assert (condition.name, condition.storage, condition.stem, condition.grid) == (text, storage, stem, grid)
    assert condition.kind.is_baseline == text.startswith("pixels")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("voxels-64", "is invalid; expected pixels-64"),
        ("latents", "is invalid"),
        ("pixels-100", "a side of 100 pixels does not divide --size 256"),
        ("pixels-0", "a side of 0 pixels"),
        ("pixels-many", "a side of many pixels"),
        ("pixels-64:channels", "`:channels` is not available for pixels, only for latents"),
        ("latents-16x@128:channels", "@128 is the grid of the synthesis stem"),
    ],
)
def test_invalid_conditions(text, expected):
    with pytest.raises(CallError) as caught:
        parse_condition(text, size=256, channels=3)
    assert expected in str(caught.value)
    assert repr(text) in str(caught.value)
