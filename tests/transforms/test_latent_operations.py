"""Operations on latents against encoding the transformed pixels: equal where they claim to be, near elsewhere."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.operators import photos
from tests.support.planes import levels_of, plane_orders, spec_of
from walloc_cdl.codec import load_codec
from walloc_cdl.codec.fit.operators import fit_operators, unrounded_values
from walloc_cdl.planes.levels import channel_values
from walloc_cdl.spec import LatentSpec
from walloc_cdl.transforms import operations
from walloc_cdl.transforms.cells import Cells
from walloc_cdl.transforms.operators import Operators

CODECS = {name: load_codec(name) for name in ("rgb-16x", "gray-16x")}
OPERATORS = {
    name: Operators(fit_operators(codec, [photos(32, codec.source_channels)])) for name, codec in CODECS.items()
}
names = st.sampled_from(sorted(CODECS))


@torch.no_grad()
def unrounded(codec, pixels):
    """Of pixels from 0 to 1."""
    return unrounded_values(codec, pixels.float() - 0.5).float()


def images_of(codec, count=3, seed=1):
    return photos(count, codec.source_channels, seed=seed)


@settings(max_examples=15)
@given(name=names, rows=st.lists(st.integers(-9, 9), min_size=3, max_size=3), columns=st.integers(-9, 9))
def test_shifts_by_whole_latents_are_exact(name, rows, columns):
    codec = CODECS[name]
    images, amounts = images_of(codec), (torch.tensor(rows), torch.tensor([columns, 0, 2]))
    shifts = zip(images, *(part.tolist() for part in amounts), strict=True)
    moved = torch.stack([image.roll((8 * down, 8 * right), (-2, -1)) for image, down, right in shifts])
    found = operations.shift(codec.encode(images).float(), *amounts)
    assert torch.equal(found, codec.encode(moved).float())


@pytest.mark.parametrize("name", CODECS)
def test_crops_are_exact_inside_and_near_at_the_border(name):
    codec = CODECS[name]
    images = photos(3, codec.source_channels, 128)
    top, left = torch.tensor([0, 2, 3]), torch.tensor([1, 0, 4])
    found = operations.crop(codec.encode(images), top, left, 12, 11)
    for image, codes, y, x in zip(images, found, top.tolist(), left.tolist(), strict=True):
        expected = codec.encode(image[None, :, 8 * y : 8 * (y + 12), 8 * x : 8 * (x + 11)])[0]
        assert torch.equal(codes[:, 4:-4, 4:-4], expected[:, 4:-4, 4:-4])
        assert not torch.equal(codes, expected)


@settings(max_examples=10)
@given(name=names, factor=st.floats(0.1, 1.0), share=st.floats(0, 1))
def test_brightness_contrast_and_mixup_are_exact_but_for_rounding(name, factor, share):
    codec, operators = CODECS[name], OPERATORS[name]
    pixels = images_of(codec) / 255
    z, step = unrounded(codec, pixels), 0.02 * float(unrounded(codec, pixels).std())

    def close(found, transformed, atol=step):
        torch.testing.assert_close(found, unrounded(codec, transformed), rtol=0.0, atol=atol)

    amounts = torch.tensor([factor, 1.0, 0.5])
    factors = amounts[:, None, None, None]
    close(operations.brightness(z, amounts, operators), pixels * factors)
    weights = torch.tensor(operations.LUMA if pixels.shape[1] == 3 else [1.0])
    luma = torch.einsum("nchw,c->nhw", pixels, weights).mean((1, 2))[:, None, None, None]
    close(operations.contrast(z, amounts, operators), luma + factors * (pixels - luma), atol=10 * step)
    partner, shares = torch.tensor([1, 2, 0]), torch.tensor([share, 0.5, 1.0])
    kept = shares[:, None, None, None]
    close(operations.mixup(z, partner, shares), kept * pixels + (1 - kept) * pixels[partner])


@pytest.mark.parametrize("name", CODECS)
def test_erased_boxes_are_those_of_a_constant_image_and_the_rest_stays(name):
    codec, operators = CODECS[name], OPERATORS[name]
    z = unrounded(codec, images_of(codec) / 255)
    boxes = torch.tensor([[0, 0, 8, 8], [2, 3, 4, 1], [7, 7, 1, 1]])
    found = operations.erase(z, boxes, operators, 0.25)
    gray = unrounded(codec, torch.full((1, codec.source_channels, 64, 64), 0.25))
    torch.testing.assert_close(found[:1], gray, rtol=0, atol=0.02 * float(z.std()))
    inside = torch.zeros(3, 8, 8, dtype=torch.bool)
    inside[0], inside[1, 2:6, 3:4], inside[2, 7, 7] = True, True, True
    kept = ~inside[:, None].expand_as(z)
    assert torch.equal(found[kept], z[kept])
    assert not torch.isclose(found, z)[~kept].all()


@settings(max_examples=25)
@given(planes=plane_orders(), seed=st.integers(0, 100))
def test_noise_keeps_the_code_of_latents_with_levels(planes, seed):
    spec = spec_of(planes)
    levels, generator = levels_of(spec, seed), torch.Generator().manual_seed(seed)
    codes = torch.stack([torch.randint(2**bits, (4, 5), generator=generator) for bits in spec.channel_bits])
    limits = [
        torch.from_numpy(levels.channel_thresholds(channel, bits).copy())
        for channel, bits in enumerate(spec.channel_bits)
    ]
    # A value within the interval of its code, as fitted levels are; those of `levels_of` are anywhere.
    ends = [torch.cat([own[:1] - 1, own, own[-1:] + 1]) for own in limits]
    x = torch.stack([(end[code] + end[code + 1]) / 2 for end, code in zip(ends, codes, strict=True)])[None]
    noisy = operations.quantization_noise(x, torch.rand(x.shape, generator=generator), Cells.of(spec, levels))
    for channel, own in enumerate(limits):
        expected, found = (torch.searchsorted(own, part[0, channel].contiguous(), right=True) for part in (x, noisy))
        inner = (expected > 0) & (expected < len(own))
        assert torch.equal(found[inner], expected[inner])


@pytest.mark.parametrize("companding", ["normal", "none"])
@pytest.mark.parametrize("scale", [1.0, 0.03])
def test_noise_keeps_every_code_and_fills_its_interval(companding, scale):
    spec = LatentSpec("c" * 64, "image", 3, 2, 8, 8, companding)
    low, high = spec.byte_range
    values = torch.from_numpy(channel_values(spec, None)[:, low : high + 1]).float()
    scales, means = torch.full((2,), scale), torch.tensor([0.0, 0.2])
    x = (scales[:, None] * (values - means[:, None]))[None, :, :, None]
    cells = Cells.of(spec, None).in_units(scales, means)
    for amount in (0.001, 0.5, 0.999):
        noisy = operations.quantization_noise(x, torch.full(x.shape, amount), cells)
        nearest = (noisy[0, :, :, 0, None] - x[0, :, None, :, 0]).abs().argmin(-1)
        if companding == "none" or amount == 0.5:  # companded codes meet nearer to the inner value
            assert torch.equal(nearest, torch.arange(high - low + 1).expand(2, -1))
        found = torch.searchsorted(cells.limits.contiguous(), noisy[0, :, :, 0].contiguous(), right=True)
        assert torch.equal(found, torch.arange(high - low + 1).expand(2, -1))


def test_flips_twice_come_back_nearly():
    codec, operators = CODECS["rgb-16x"], OPERATORS["rgb-16x"]
    z = unrounded(codec, images_of(codec) / 255)
    for flip in (operations.horizontal_flip, operations.vertical_flip):
        twice = flip(flip(z, operators), operators)
        assert (twice - z).square().mean() < 0.03 * z.var()


def test_operations_keep_the_type_and_flip_in_float32_under_autocast():
    codec, operators = CODECS["rgb-16x"], OPERATORS["rgb-16x"]
    z = unrounded(codec, images_of(codec) / 255)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(operations.horizontal_flip(z, operators), operations.horizontal_flip(z, operators.float()))
        assert operations.horizontal_flip(z, operators).dtype == torch.float32
    half, amounts = z.bfloat16(), torch.tensor([0.5, 1.0, 1.5])
    assert operations.horizontal_flip(half, operators).dtype == torch.bfloat16
    assert operations.contrast(half, amounts, operators).dtype == torch.bfloat16
    assert operations.mixup(half, torch.tensor([1, 2, 0]), amounts / 2).dtype == torch.bfloat16


def decibels(expected, found):
    centered = expected - expected.mean((0, 2, 3), keepdim=True)
    return float(10 * torch.log10(centered.square().sum() / (expected - found).square().sum()))


@pytest.mark.parametrize("name", CODECS)
def test_approximate_transforms_have_errors_of_the_documented_size(name):
    """On smooth noise, where they are about as large as on photos."""
    codec, operators = CODECS[name], OPERATORS[name]
    pixels = photos(8, codec.source_channels, 128, seed=2) / 255
    z = unrounded(codec, pixels)
    assert decibels(unrounded(codec, pixels.flip(-1)), operations.horizontal_flip(z, operators)) > 17
    assert decibels(unrounded(codec, pixels.flip(-2)), operations.vertical_flip(z, operators)) > 17
    start = torch.full((8,), 2)
    cropped = unrounded(codec, pixels[..., 16:112, 16:112])
    assert 8 < decibels(cropped, operations.crop(z, start, start, 12, 12)) < 25
    erased = pixels.clone()
    erased[..., 32:96, 32:96] = 0.5
    boxes = torch.tensor([[4, 4, 8, 8]]).expand(8, 4)
    assert 8 < decibels(unrounded(codec, erased), operations.erase(z, boxes, operators)) < 25
    brighter = (1.3 * pixels).clamp(0, 1)
    assert 8 < decibels(unrounded(codec, brighter), operations.brightness(z, torch.full((8,), 1.3), operators)) < 40
