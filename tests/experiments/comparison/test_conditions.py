import pytest

from experiments.comparison.conditions import Setting, Storage, default_conditions, find_kind, parse_condition
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
        ("latents-rgb-low+768", 3, ("rgb-low", 768), "synthesis", None),
        ("latents-codecs/mine", 3, "codecs/mine", "synthesis", None),
        ("latents-codecs/mine@96", 3, "codecs/mine", "synthesis", 96),
    ],
)
def test_valid_conditions(text, channels, codec, stem, grid):
    condition = parse_condition(text, Setting(256, channels))
    storage = Storage(codec) if isinstance(codec, str) else Storage(*codec)
    assert (condition.name, condition.storage, condition.stem, condition.grid) == (text, storage, stem, grid)
    assert condition.kind.is_baseline == text.startswith("pixels")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("voxels-64", "is invalid; expected full, pixels-64"),
        ("latents", "is invalid"),
        ("full-64", "the full images take no '64'; write full, or full@64"),
        ("full@100", "a grid of 100 pixels does not divide --size 256"),
        ("jpeg-best", "'best' is no number of bytes; write jpeg-3072"),
        ("jpeg-3072:channels", "`:channels` is not available for jpeg, only for latents"),
        ("pixels-100", "a side of 100 pixels does not divide --size 256"),
        ("pixels-0", "a side of 0 pixels"),
        ("pixels-many", "a side of many pixels"),
        ("pixels-64:channels", "`:channels` is not available for pixels, only for latents"),
        ("latents-16x@128:channels", "@128 is the grid of the synthesis stem"),
    ],
)
def test_invalid_conditions(text, expected):
    with pytest.raises(CallError) as caught:
        parse_condition(text, Setting(256, 3))
    assert expected in str(caught.value)
    assert repr(text) in str(caught.value)


def test_full_images_are_what_a_model_sees_of_them():
    assert parse_condition("full", Setting(256, 3)).storage == Storage("resize-rgb-1x", is_full=True)
    assert parse_condition("full@64", Setting(256, 1)).storage == Storage("resize-gray-16x", is_full=True)
    assert parse_condition("full", Setting(256, 3, grid=128)).storage == Storage("resize-rgb-4x", is_full=True)


def test_files_are_a_reference():
    condition = parse_condition("jpeg-3072", Setting(256, 3))
    assert condition.storage == Storage(None, 3072, file_format="jpeg")
    assert condition.kind.is_reference
    assert not condition.kind.can_train


def test_what_conditions_share():
    setting = Setting(256, 3, codec="rgb-low", grid=64)
    assert parse_condition("latents-768", setting).storage == Storage("rgb-low", 768)
    assert parse_condition("latents-768", setting).grid == 64
    assert parse_condition("latents-768@128", setting).grid == 128
    assert parse_condition("latents-16x:channels", setting).grid is None


def test_the_default_curve():
    assert default_conditions(256, 3, largest_side=256) == (
        *("full", "pixels-16", "latents-768", "pixels-32", "latents-3072", "pixels-64", "latents-12288"),
        *("pixels-128", "latents-49152"),
    )
    assert default_conditions(96, 1, largest_side=96) == (
        "full",
        "pixels-16",
        "latents-256",
        "pixels-32",
        "latents-1024",
    )
    assert default_conditions(256, 3, largest_side=64)[-1] == "latents-3072"
    with pytest.raises(
        CallError, match="images of 16 pixels have no smaller forms to compare below 16 pixels a side; give"
    ):
        default_conditions(16, 3, largest_side=16)


def test_kinds_are_found_by_name():
    assert [find_kind(name).name for name in ("full", "full@64", "latents-3@64:channels")] == [
        "full",
        "full",
        "latents",
    ]
    with pytest.raises(CallError, match="condition 'voxels-3' is of an unknown kind; expected one of full, pixels"):
        find_kind("voxels-3")
