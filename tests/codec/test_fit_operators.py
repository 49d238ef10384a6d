"""The fit of operators: flips are far closer than mirroring; what is exact for a codec is fitted exactly."""

import numpy as np
import pytest
import torch

from tests.support.operators import photos
from tests.support.planes import plane_codec
from walloc_cdl.codec import load_codec
from walloc_cdl.codec.fit import operators as module
from walloc_cdl.codec.fit.operators import fit_operators, num_operator_images, unrounded_values
from walloc_cdl.errors import JobError
from walloc_cdl.transforms import operations
from walloc_cdl.transforms.operators import Operators


@torch.no_grad()
def values(codec, images):
    return codec.values(codec.encode(images))[:, : codec.latent_channels]


def ratio_db(expected, found):
    centered = expected - expected.mean((0, 2, 3), keepdim=True)
    return float(10 * torch.log10(centered.square().sum() / (expected - found).square().sum()))


@pytest.mark.parametrize(("name", "num_planes"), [("rgb-16x", None), ("gray-16x", None), ("rgb", 96), ("gray", 48)])
def test_flips_are_12_db_better_than_mirroring(name, num_planes):
    codec = load_codec(name)
    codec = codec if num_planes is None else codec.with_planes(num_planes)
    channels = codec.source_channels
    fitted = Operators(fit_operators(codec, list(photos(48, channels).split(16))))
    images = photos(8, channels, seed=1)
    z = values(codec, images)
    for axis, flip in ((-1, operations.horizontal_flip), (-2, operations.vertical_flip)):
        expected = values(codec, images.flip(axis))
        assert ratio_db(expected, flip(z, fitted)) > ratio_db(expected, z.flip(axis)) + 12


@pytest.mark.parametrize("name", ["rgb-16x", "gray-4x", "rgb"])
def test_constant_images_are_exact(name):
    codec = load_codec(name)
    fitted = Operators(fit_operators(codec, [photos(32, codec.source_channels)]))
    for value in (0.2, 0.5, 0.7):
        image = torch.full((1, codec.source_channels, 64, 64), value - 0.5)
        expected = unrounded_values(codec, image)
        constant = operations.constant_latent(torch.tensor([value]), fitted).double()[:, :, None, None]
        torch.testing.assert_close(
            constant.expand_as(expected), expected, rtol=1e-3, atol=1e-2 * float(expected.detach().std())
        )


def test_the_mean_of_the_pixels_follows_from_that_of_the_latents():
    codec = load_codec("rgb-16x")
    fitted = fit_operators(codec, [photos(32)])
    images = photos(8, seed=1)
    found = values(codec, images).mean((2, 3)).numpy() @ fitted.mean_weight.T + fitted.mean_bias
    np.testing.assert_allclose(found, (images / 255).mean((2, 3)), atol=5e-3)


def test_pixels_are_mirrored_exactly():
    codec = load_codec("resize-rgb-16x")
    fitted, images = Operators(fit_operators(codec, [photos(4)])), photos(3, seed=1)
    z = values(codec, images)
    torch.testing.assert_close(operations.horizontal_flip(z, fitted), z.flip(-1), rtol=0, atol=1e-6)
    torch.testing.assert_close(operations.vertical_flip(z, fitted), z.flip(-2), rtol=0, atol=1e-6)


def test_few_positions_have_no_neighbors_and_no_batch_is_an_error(monkeypatch):
    codec = plane_codec()
    fitted = fit_operators(codec, [photos(1, side=16)])
    assert np.abs(fitted.hflip_weight[:, :, [0, 2]]).max() == 0 < np.abs(fitted.hflip_weight[:, :, 1]).max()
    assert all(np.isfinite(part).all() for part in (fitted.hflip_weight, fitted.vflip_weight, fitted.mean_weight))
    with pytest.raises(JobError, match="no sample to fit the operators of flips to"):
        fit_operators(codec, [])
    monkeypatch.setattr(module, "MAX_OPERATORS_BYTES", 100)
    assert fit_operators(codec, [photos(1)]) is None


def test_the_fit_uses_the_first_images_only():
    codec = load_codec("gray-16x")
    count = num_operator_images(codec, (8, 8))
    assert count == 32
    images, others = photos(count, 1), photos(8, 1, seed=5)
    whole, first = (fit_operators(codec, batches) for batches in ([images, others], [images[:20], images[20:]]))
    np.testing.assert_allclose(whole.hflip_weight, first.hflip_weight, atol=1e-4)
