"""A small classifier with fixed weights, a codec with bit planes, and labeled images."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from classifiers.models.pixel_classifier import load_pixel_classifier
from datasets_prep.codec_fit.source_signals import select_samples
from datasets_prep.decode.images import ImagePreparation
from datasets_prep.sources import open_source
from experiments.fidelity.samples import PreparedImages
from tests.support.pictures import picture
from tests.support.planes import plane_codec


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), path)
    return path


@pytest.fixture(scope="session")
def classifier(weights):
    return load_pixel_classifier("test_resnet", weights)


@pytest.fixture(scope="session")
def codec():
    return plane_codec()


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of 6 images, of which 4 begin with a WordNet id that ImageNet has, and a file that is no image."""
    folder = tmp_path_factory.mktemp("photos")
    names = ["n01440764_tench", "n01443537_0", "n02123045", "n07920052_espresso", "n99999999_none", "other"]
    for seed, name in enumerate(names):
        picture(seed, 80, 72).save(folder / f"{name}.png")
    (folder / "zz.png").write_bytes(b"no picture")
    return folder


def prepared(folder, size=64, **selection):
    source = open_source(f"imagefolder:{folder}")
    return PreparedImages(source, ImagePreparation(3, size=size), select_samples(source, **selection))


@pytest.fixture
def images(photos):
    return prepared(photos)
