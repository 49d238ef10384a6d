"""Operations on pixels against torchvision's, each sample with its own amount."""

import math

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from walloc_cdl.augment import color
from walloc_cdl.augment.draws import Draws
from walloc_cdl.augment.geometry import boxes, composed, flips, identity, rotations, sample, shears, shifts
from walloc_cdl.augment.policies import RAND_AUGMENT, TRIVIAL_AUGMENT


@pytest.fixture
def pixels():
    coarse = torch.rand(4, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(24, 32), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize(
    ("ours", "theirs", "amounts"),
    [
        (color.brightness, tv.adjust_brightness, [0.0, 0.5, 1.0, 1.9]),
        (color.contrast, tv.adjust_contrast, [0.0, 0.5, 1.0, 1.9]),
        (color.saturation, tv.adjust_saturation, [0.0, 0.5, 1.0, 1.9]),
        (color.hue, tv.adjust_hue, [-0.5, -0.1, 0.0, 0.3]),
        (color.solarize, tv.solarize, [0.0, 0.3, 0.7, 1.0]),
        (color.sharpness, tv.adjust_sharpness, [0.0, 0.5, 1.0, 1.9]),
    ],
)
def test_colors_are_those_of_torchvision(pixels, ours, theirs, amounts):
    found = ours(pixels, torch.tensor(amounts))
    for image, amount, result in zip(pixels, amounts, found, strict=True):
        torch.testing.assert_close(result, theirs(image, amount), atol=2e-3, rtol=0)


@pytest.mark.parametrize(("ours", "theirs"), [(color.invert, tv.invert), (color.autocontrast, tv.autocontrast)])
def test_colors_without_an_amount_are_those_of_torchvision(pixels, ours, theirs):
    torch.testing.assert_close(ours(pixels), theirs(pixels), atol=1e-5, rtol=0)


def test_posterized_and_equalized_bytes_are_those_of_torchvision(pixels):
    as_bytes = (pixels * 255).round().to(torch.uint8)
    found = color.posterize(as_bytes / 255, torch.tensor([1, 2, 4, 8]))
    for image, bits, result in zip(as_bytes, [1, 2, 4, 8], found, strict=True):
        assert torch.equal((result * 255).round().to(torch.uint8), tv.posterize(image, bits))
    equalized = (color.equalize(as_bytes / 255) * 255 - tv.equalize(as_bytes).float()).abs()
    assert equalized.mean() < 1.5


def test_gray_images_have_no_hue_and_no_saturation():
    gray = torch.rand(2, 1, 8, 8)
    assert torch.equal(color.hue(gray, torch.tensor([0.2, 0.4])), gray)
    assert torch.equal(color.saturation(gray, torch.tensor([0.2, 0.4])), gray)
    assert color.contrast(gray, torch.tensor([0.0, 1.0]))[0].std() < 1e-6


def test_an_image_that_is_not_moved_keeps_its_values(pixels):
    torch.testing.assert_close(sample(pixels, identity(4, pixels.device), (24, 32)), pixels, atol=1e-5, rtol=0)


def test_flips_mirror_the_samples_that_are_chosen(pixels):
    chosen = torch.tensor([True, False, True, False])
    for axis, dimension in ((0, -1), (1, -2)):
        found = sample(pixels, flips(chosen, axis=axis), (24, 32))
        torch.testing.assert_close(found[::2], pixels[::2].flip(dimension), atol=1e-5, rtol=0)
        torch.testing.assert_close(found[1::2], pixels[1::2], atol=1e-5, rtol=0)


def test_a_box_is_what_torchvision_crops_and_resizes(pixels):
    shares = [torch.tensor([value]) for value in (8 / 32, 6 / 24, 16 / 32, 12 / 24)]
    found = sample(pixels[:1], boxes(*shares), (24, 32))
    expected = tv.resized_crop(pixels[:1], 6, 8, 12, 16, [24, 32], antialias=False)
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # at its border, ours sees beyond the box
    torch.testing.assert_close(found[inner], expected[inner], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("maps", "arguments"),
    [
        (lambda aspect: rotations(torch.tensor([30.0]), aspect), {"angle": -30.0}),
        (lambda aspect: shifts(torch.tensor([0.25]), axis=0), {"translate": [8, 0]}),
        (lambda aspect: shifts(torch.tensor([-0.25]), axis=1), {"translate": [0, -6]}),
        (lambda aspect: shears(torch.tensor([0.3]), aspect, axis=0), {"shear": [math.degrees(math.atan(0.3)), 0.0]}),
    ],
)
def test_motions_are_those_of_torchvision(pixels, maps, arguments):
    found = sample(pixels[:1], maps(32 / 24), (24, 32))
    settings = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], **arguments}
    expected = tv.affine(pixels[:1], interpolation=tv.InterpolationMode.BILINEAR, **settings)
    known = tv.affine(torch.ones_like(pixels[:1]), interpolation=tv.InterpolationMode.BILINEAR, **settings) > 0.999
    assert known.float().mean() > 0.5
    torch.testing.assert_close(found[known], expected[known], atol=2e-3, rtol=0)


def test_composed_maps_are_one_after_the_other():
    turned, moved = rotations(torch.tensor([90.0]), 1.0), shifts(torch.tensor([0.25]), axis=0)
    pixels = torch.rand(1, 1, 16, 16)
    once = sample(pixels, composed(moved, turned), (16, 16))
    twice = sample(sample(pixels, turned, (16, 16)), moved, (16, 16))
    torch.testing.assert_close(once[..., 5:], twice[..., 5:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("operations", [RAND_AUGMENT, TRIVIAL_AUGMENT])
@pytest.mark.parametrize("channels", [1, 3])
def test_operations_of_policies_keep_shape_and_range(operations, channels):
    x = torch.rand(3, channels, 16, 20)
    for name, operation in operations.items():
        for strength in (0.0, 0.5, 1.0):
            result = operation(x, torch.full((3,), strength), torch.tensor([1.0, -1.0, 1.0]))
            assert result.shape == x.shape, name
            assert result.isfinite().all(), name
            assert -1e-4 <= result.min() <= result.max() <= 1 + 1e-4, name


def test_draws_are_uniform_independent_and_follow_from_word_and_name():
    words = torch.randint(-(2**63), 2**63 - 1, (20_000,), generator=torch.Generator().manual_seed(0))
    draws = Draws(words)
    first, second = draws.uniform("a"), draws.uniform("b")
    assert torch.equal(first, Draws(words.view(torch.uint64)).uniform("a"))
    assert torch.equal(first[5:7], Draws(words[5:7]).uniform("a"))
    assert 0 <= first.min() <= first.max() < 1
    assert abs(first.mean() - 0.5) < 0.01
    assert abs(first.var() - 1 / 12) < 0.003
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.03
    assert not torch.equal(first, draws.named("x").uniform("a"))
    many = draws.uniform("a", count=3)
    assert many.shape == (20_000, 3)
    assert abs(torch.corrcoef(many.T).fill_diagonal_(0)).max() < 0.03
    normal = draws.normal("n")
    assert abs(normal.mean()) < 0.03
    assert abs(normal.std() - 1) < 0.02
    assert draws.below("k", 5).unique().tolist() == [0, 1, 2, 3, 4]
