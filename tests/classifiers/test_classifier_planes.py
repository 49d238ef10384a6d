"""Classifiers on packed data sets: rows and codes give the same logits, and a saved model reads its own prefix."""

import numpy as np
import pytest
import torch
from PIL import Image

from classifiers import TrainConfig, create_model, evaluate, load_classifier, predict, train
from datasets_prep import PrepareConfig, open_source, prepare
from tests.support.planes import plane_codec
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.errors import CallError, SpecMismatchError

PREFIX = 12


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The folder of 16 samples of two classes, in latents of 8 × 8 positions."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split in ("train", "test"):
        for number in range(16):
            path = folder / "source" / split / ("cat" if number % 2 else "dog") / f"{number}.png"
            path.parent.mkdir(exist_ok=True, parents=True)
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            coarse.resize((32, 32), Image.Resampling.BICUBIC).save(path)
    codec, config = plane_codec(), PrepareConfig(size=32, workers=0)
    prepare(open_source(str(folder / "source")), codec, folder / "latents", config)
    return folder / "latents"


@pytest.mark.parametrize("stem", ["synthesis", "channels"])
@pytest.mark.parametrize("num_planes", [PREFIX, None])
def test_rows_and_codes_give_the_same_logits(packed, stem, num_planes):
    dataset = open_latents(packed, num_planes=num_planes)
    model = create_model("test_resnet", dataset, stem=stem, grid=16).eval()
    rows = next(iter(LatentLoader(dataset, 4, shuffle=False))).codes
    codes = dataset[[0, 1, 2, 3]].codes
    assert (rows.ndim, codes.shape[1:]) == (2, dataset.latent_shape)
    with torch.inference_mode():
        torch.testing.assert_close(model(rows), model(codes))
    assert model.config.spec == dataset.spec


def test_a_prefix_shows_the_pixels_of_its_codec(packed):
    """Nearly: the layer is fitted to whole rows of few samples."""
    dataset = open_latents(packed, num_planes=PREFIX)
    model = create_model("test_resnet", dataset, grid=32)
    codes = dataset[[0, 1]].codes
    layer = dataset.synthesis_bank[4]
    mean, std = (torch.from_numpy(part).reshape(3, 1, 1) for part in (layer.pixel_mean, layer.pixel_std))
    with torch.inference_mode():
        pixels = model.stem(model.input(codes)) * std + mean
        decoded = dataset.codec.decode(codes)
    assert (pixels - decoded).square().mean().sqrt() < 0.4 * decoded.std()


def test_a_saved_model_reads_its_own_prefix(packed, tmp_path):
    prefix = open_latents(packed, num_planes=PREFIX)
    config = TrainConfig(epochs=1, batch_size=8, precision="fp32")

    def make():
        return create_model("test_resnet", prefix, grid=16)

    record = train(make, prefix, open_latents(packed, "test"), config, tmp_path / "run")
    model = load_classifier(tmp_path / "run")
    assert model.config.spec.num_planes == PREFIX
    whole, own = open_latents(packed, "test"), open_latents(packed, "test", num_planes=PREFIX)
    assert evaluate(model, whole).accuracy == record.metrics.accuracy
    np.testing.assert_array_equal(predict(model, whole).logits, predict(model, own).logits)
    with pytest.raises(CallError, match=r"takes 12 bit planes, but the data set .* is read with 5 of them; prepare or"):
        evaluate(model, open_latents(packed, "test", num_planes=5))


def test_a_model_of_another_codec_is_refused(packed, rgb16):
    model = create_model("test_resnet", rgb16)
    with pytest.raises(SpecMismatchError, match="has codec_id"):
        evaluate(model, open_latents(packed, "test"))
