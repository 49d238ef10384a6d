"""`Latent` in torchvision's transforms: what is right is done, what is not raises, and nothing passes in silence."""

import copy
import inspect

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from tests.support.operators import random_operators
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.spec import LatentSpec
from walloc_cdl.transforms import operations
from walloc_cdl.transforms.latent import Latent
from walloc_cdl.transforms.operators import Operators
from walloc_cdl.transforms.torchvision_kernels import REFUSED

SPEC = LatentSpec("c" * 64, "image", 3, 4, 8, 8, "normal")
OPERATORS = Operators(random_operators(SPEC))


@pytest.fixture
def latent():
    generator = torch.Generator().manual_seed(0)
    return Latent(torch.randn(2, 4, 6, 8, generator=generator), spec=SPEC, operators=OPERATORS)


def plain(latent):
    return latent.as_subclass(torch.Tensor)


def test_every_functional_of_torchvision_does_something_or_raises():
    """New ones of other versions are found here; the registry is private, but nothing else lists them."""
    registry = functional._utils._KERNEL_REGISTRY
    theirs = {name.__name__ for name, kernels in registry.items() if kernels.keys() - {Latent}}
    ours = {name.__name__ for name, kernels in registry.items() if Latent in kernels}
    assert theirs == ours


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (v2.RandomHorizontalFlip(1.0), lambda x: operations.horizontal_flip(x, OPERATORS)),
        (v2.RandomVerticalFlip(1.0), lambda x: operations.vertical_flip(x, OPERATORS)),
        (v2.RandomHorizontalFlip(0.0), lambda x: x),
        (v2.CenterCrop(4), lambda x: x[..., 1:5, 2:6]),
        (
            v2.ColorJitter(brightness=(0.5, 0.5)),
            lambda x: operations.brightness(x, torch.tensor([0.5, 0.5]), OPERATORS),
        ),
        (v2.ColorJitter(contrast=(2, 2)), lambda x: operations.contrast(x, torch.tensor([2.0, 2.0]), OPERATORS)),
        (v2.ToDtype({Latent: torch.float64}), lambda x: x.double()),
    ],
)
def test_transforms_that_are_right(latent, transform, expected):
    result = transform(latent)
    assert isinstance(result, Latent)
    assert (result.spec, result.operators) == (SPEC, OPERATORS)
    torch.testing.assert_close(plain(result), expected(plain(latent)))
    single = transform(Latent(plain(latent)[0], spec=SPEC, operators=OPERATORS))
    torch.testing.assert_close(plain(single), plain(result)[0])


def test_functionals_of_boxes(latent):
    boxes = torch.tensor([[1, 2, 3, 4]]).expand(2, 4)
    erased = functional.erase(latent, 1, 2, 3, 4, v=0.25)
    torch.testing.assert_close(plain(erased), operations.erase(plain(latent), boxes, OPERATORS, 0.25))
    assert torch.equal(plain(functional.crop(latent, 1, 2, 3, 4)), plain(latent)[..., 1:4, 2:6])
    assert functional.get_size(latent) == [6, 8]
    assert functional.get_dimensions(latent) == [4, 6, 8]
    with pytest.raises(CallError, match=r"a crop of 3 × 9 at \(0, 0\) of 6 × 8 latents; sizes are in latents"):
        functional.crop(latent, 0, 0, 3, 9)
    with pytest.raises(CallError, match="sizes are in latents"):
        v2.CenterCrop(64)(latent)
    with pytest.raises(CallError, match="to one value of all pixels"):
        functional.erase(latent, 1, 2, 3, 4, v=torch.rand(4, 3, 4))


@pytest.mark.parametrize(
    ("transform", "remedy"),
    [
        (v2.RandomRotation(10), "rotate is not right for latents, which are no pixels: crop or shift by whole latents"),
        (v2.Resize(4), "resize is not right.*a model chooses its own grid"),
        (v2.Pad(2), "pad is not right"),
        (v2.ColorJitter(hue=0.1), "adjust_hue is not right.*use brightness and contrast, or augment the pixels"),
        (v2.ColorJitter(saturation=(2, 2)), "adjust_saturation is not right"),
        (v2.Grayscale(3), "rgb_to_grayscale is not right"),
        (v2.GaussianBlur(3), "gaussian_blur is not right"),
        (v2.RandomInvert(1.0), "invert is not right"),
        (v2.RandomPosterize(4, 1.0), "posterize is not right"),
        (v2.RandomSolarize(0.5, 1.0), "solarize is not right"),
        (v2.RandomEqualize(1.0), "equalize is not right"),
        (v2.RandomAutocontrast(1.0), "autocontrast is not right"),
        (v2.RandomAdjustSharpness(2, 1.0), "adjust_sharpness is not right"),
        (v2.Normalize([0.5] * 4, [0.5] * 4), "normalize is not right.*ModelInput standardizes"),
        (v2.FiveCrop(4), "five_crop is not right"),
        (v2.GaussianNoise(), "gaussian_noise is not right"),
        (v2.ToDtype({Latent: torch.uint8}), "latents as torch.uint8; choose a float type"),
    ],
)
def test_transforms_that_are_wrong_raise(latent, transform, remedy):
    with pytest.raises(CallError, match=remedy):
        transform(latent)


@pytest.mark.parametrize(
    "transform",
    [
        v2.RandomCrop(4),
        v2.RandomResizedCrop(4),
        v2.RandomErasing(1.0),
        v2.RandAugment(),
        v2.RandomAffine(10),
        v2.ElasticTransform(),
        v2.RandomPerspective(0.5, 1.0),
    ],
)
def test_transforms_that_ask_for_an_image_raise_themselves(latent, transform):
    with pytest.raises((TypeError, CallError)):
        transform(latent)


@pytest.mark.parametrize("name", REFUSED)
def test_every_refusal_says_what_to_use(latent, name):
    function = getattr(functional, name)
    required = [each for each in inspect.signature(function).parameters.values() if each.default is each.empty]
    with pytest.raises(CallError, match=f"{name} is not right for latents, which are no pixels: .{{20}}"):
        function(latent, *[1] * (len(required) - 1))


def test_the_spec_stays_where_torchvision_keeps_the_type(latent):
    for kept in (latent.clone(), latent.to(torch.float64), latent.detach(), copy.deepcopy(latent)):
        assert isinstance(kept, Latent)
        assert kept.spec == SPEC
        assert kept.operators is OPERATORS
    assert type(latent + 1) is torch.Tensor
    assert "companding normal" in repr(latent)


def test_what_is_no_latent_is_refused():
    with pytest.raises(CallError, match=r"latents are torch.uint8 \[1, 4, 2, 2\], expected float \[..., 4, h, w\]"):
        Latent(torch.zeros(1, 4, 2, 2, dtype=torch.uint8), spec=SPEC)
    with pytest.raises(CallError, match=r"latents are torch.float32 \[3, 2, 2\]"):
        Latent(torch.zeros(3, 2, 2), spec=SPEC)
    with pytest.raises(CallError, match="a Latent of audio"):
        Latent(torch.zeros(4, 2, 2), spec=LatentSpec("c" * 64, "audio", 1, 4, 8, 8, "normal", sample_rate=8000))
    bare = Latent(torch.zeros(4, 2, 2), spec=SPEC)
    with pytest.raises(CallError, match="a flip needs the operators of the data set; make latents"):
        v2.RandomHorizontalFlip(1.0)(bare)
    assert v2.CenterCrop(1)(bare).shape == (4, 1, 1)


def test_latents_of_codes_and_rows_are_their_values(packed):
    dataset = open_latents(packed, "test", num_planes=20)
    codes = dataset[[0, 1, 2]].codes
    rows = next(iter(LatentLoader(dataset, 3, shuffle=False))).codes
    expected = dataset.codec.values(codes)[:, : dataset.spec.latent_channels]
    for latent in (Latent.of_codes(dataset, codes), Latent.of_codes(dataset, rows)):
        torch.testing.assert_close(plain(latent), expected.detach())
        assert latent.spec == dataset.spec
    flipped = v2.RandomHorizontalFlip(1.0)(Latent.of_codes(dataset, codes))
    wanted = operations.horizontal_flip(expected, Operators(dataset.operators))
    torch.testing.assert_close(plain(flipped), wanted.detach())
