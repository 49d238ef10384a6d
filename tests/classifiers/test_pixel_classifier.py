"""`PixelClassifier`: timm's preparation of images, weights from files, and the names of classes."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from classifiers.models.pixel_classifier import load_pixel_classifier
from tests.support.pictures import picture
from walloc_cdl.errors import CallError, DamagedError


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), path)
    return path


def pixels(side, mode="RGB"):
    image = np.atleast_3d(np.asarray(picture(3, side, side, mode)))
    return torch.from_numpy(image.transpose(2, 0, 1).copy())[None]


def test_images_are_prepared_as_by_timm(weights):
    classifier = load_pixel_classifier("test_resnet", weights)
    model = timm.create_model("test_resnet")
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    for side in (64, 168, 256):
        image = pixels(side)
        expected = transform(Image.fromarray(image[0].permute(1, 2, 0).numpy()))
        # one step of 8 bits: torch rounds once, Pillow after each direction
        torch.testing.assert_close(classifier.inputs(image)[0], expected, atol=0.04, rtol=0)


def test_the_crop_can_be_chosen(weights):
    whole = load_pixel_classifier("test_resnet", weights, crop_share=1.0)
    size = whole.input_size[0]
    image = pixels(size)
    assert whole.inputs(image).shape == (1, 3, size, size)
    config = timm.data.resolve_data_config({}, model=timm.create_model("test_resnet"))
    mean, std = (torch.tensor(config[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(whole.inputs(image)[0], (image[0] / 255 - mean) / std)
    with pytest.raises(CallError, match=r"a share of 1.5 of the image's side; expected more than 0 and at most 1"):
        load_pixel_classifier("test_resnet", weights, crop_share=1.5)


def test_logits_and_features_are_those_of_the_network(weights):
    classifier = load_pixel_classifier("test_resnet", weights)
    model = timm.create_model("test_resnet").eval()
    model.load_state_dict(load_file(weights))
    image = pixels(96)
    with torch.no_grad():
        inputs = classifier.inputs(image)
        torch.testing.assert_close(classifier.logits(image), model(inputs))
        features = classifier.features(image)
        torch.testing.assert_close(model.get_classifier()(features), model(inputs))


def test_gray_images_are_shown_as_color(weights):
    classifier = load_pixel_classifier("test_resnet", weights)
    gray = pixels(64, "L")
    torch.testing.assert_close(classifier.logits(gray), classifier.logits(gray.expand(-1, 3, -1, -1)))


def test_classes_are_named_as_timm_names_them(weights, tmp_path):
    classifier = load_pixel_classifier("test_resnet", weights)
    assert classifier.label_names[:2] == ["n01440764", "n01443537"]
    assert classifier.label_texts[0] == "tench, Tinca tinca"
    path = tmp_path / "seven.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=7).state_dict(), path)
    seven = load_pixel_classifier("test_resnet", path)
    assert (seven.num_classes, seven.label_names) == (7, None)


def test_other_files_are_refused(weights, tmp_path):
    with pytest.raises(
        CallError, match=r"weights '.*missing.safetensors' are not a safetensors file; name one, or con"
    ):
        load_pixel_classifier("test_resnet", tmp_path / "missing.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\x10\0\0\0\0\0\0\0garbage")
    with pytest.raises(DamagedError, match=r"damaged.safetensors: not readable as safetensors \(.*\); get the file"):
        load_pixel_classifier("test_resnet", damaged)
    with pytest.raises(
        CallError, match=r"weights.safetensors does not hold weights of resnet18: 'conv1.weight' is missing"
    ):
        load_pixel_classifier("resnet18", weights)
    with pytest.raises(CallError, match="unknown model 'resnot18'"):
        load_pixel_classifier("resnot18", weights)
