"""Real pretrained weights on stored latents: EfficientNet-Lite0's for ImageNet."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage import data

from classifiers import TrainConfig, create_model, load_classifier, train
from classifiers.models.convert_weights import convert_weights
from datasets_prep import PrepareConfig, open_source, prepare
from tests.support.lite0 import MODEL, lite0_checkpoint
from walloc_cdl.codec import load_codec
from walloc_cdl.data import open_latents

PHOTOS = {"coffee": {967}, "chelsea": {281, 282, 285}}
"""Photos, and their classes in ImageNet: espresso, and three kinds of cats."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    out = tmp_path_factory.mktemp("lite0") / "weights.safetensors"
    convert_weights(lite0_checkpoint(), MODEL, out)
    return out


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Latents of 32 × 32 positions of both photos, one a class, each mirrored as well."""
    folder = tmp_path_factory.mktemp("photos")
    for name in PHOTOS:
        image = Image.fromarray(getattr(data, name)())
        (folder / "source" / "train" / name).mkdir(parents=True)
        image.save(folder / "source" / "train" / name / "0.png")
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "source" / "train" / name / "1.png")
    config = PrepareConfig(size=256, workers=0)
    prepare(open_source(str(folder / "source")), load_codec("rgb-4x"), folder / "latents", config)
    return open_latents(folder / "latents")


@torch.no_grad()
def test_logits_are_timms_for_the_pixels_that_the_stem_makes(photos, weights):
    model = create_model(MODEL, photos, pretrained=weights, num_classes=1000).eval()
    assert (model.config.grid, model.config.fit, model.stem.block) == (224, None, 7)
    plain = timm.create_model(MODEL).eval()
    plain.load_state_dict({**plain.state_dict(), **load_file(weights)})
    codes = photos.gather(range(len(photos))).codes
    layer = photos.synthesis_bank[7]
    # The synthesis by its definition, and timm's normalization, of pixels from 0 to 1.
    values = torch.from_numpy(photos.spec.byte_values()[codes.numpy()]).float()
    padded = torch.nn.functional.pad(values, (2, 2, 2, 2), mode="circular")
    blocks = torch.nn.functional.conv2d(padded, torch.from_numpy(layer.weight), torch.from_numpy(layer.bias))
    pixels = torch.pixel_shuffle(blocks, 7) + 0.5
    mean, std = (torch.tensor(plain.pretrained_cfg[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    logits, expected = model(codes), plain((pixels - mean) / std)
    torch.testing.assert_close(logits, expected, atol=2e-3, rtol=1e-3)
    names = [photos.class_names[label] for label in photos.labels]
    assert all(found in PHOTOS[name] for found, name in zip(logits.argmax(1).tolist(), names, strict=True))


def test_the_head_and_the_last_stage_are_tuned_on_kept_features(photos, weights, tmp_path):
    config = TrainConfig(epochs=3, batch_size=4, lr=3e-3, freeze_until="blocks.6")
    done = []
    train(
        lambda: create_model(MODEL, photos, pretrained=weights),
        photos,
        None,
        config,
        tmp_path / "run",
        on_features=lambda count, total: done.append((count, total)),
    )
    assert done == [(4, 4)]
    model, published = load_classifier(tmp_path / "run"), load_file(weights)
    state = model.backbone.state_dict()
    assert all(
        torch.equal(state[name], published[name]) for name in published if name.startswith(("conv_stem", "blocks.5"))
    )
    assert not torch.equal(state["conv_head.weight"], published["conv_head.weight"])
    assert model.backbone.get_classifier().out_features == 2
    assert np.isfinite(model(photos.gather([0, 1]).codes).detach().numpy()).all()
