"""Comparisons by probes: curves without training."""

import json
import random

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.comparison.conditions import Setting, parse_condition
from experiments.comparison.results import load_results
from experiments.probing import observe_conditions
from experiments.probing.compare import ProbeConfig, probe
from experiments.probing.demo import demo_config
from experiments.probing.features import PyramidFeatures
from experiments.probing.forms import condition_form
from tests.support.pictures import picture
from walloc_cdl.codec import load_codec
from walloc_cdl.errors import CallError, JobError


def texture(seed: int, kind: str, side: int = 64) -> Image.Image:
    """Stripes of two pixels, which a small image does not have, horizontal or vertical, anywhere, with noise."""
    generator = np.random.default_rng(seed)
    stripes = np.where((np.arange(side) + generator.integers(4)) // 2 % 2, 80.0, 160.0)
    pixels = stripes[:, None] if kind == "horizontal" else stripes[None, :]
    noisy = pixels + generator.normal(0, 50, (side, side))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).convert("RGB")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two classes of 20 images that fine detail tells apart, without splits; one file is no image."""
    root = tmp_path_factory.mktemp("source") / "stripes"
    for number in range(40):
        kind = ("horizontal", "vertical")[number % 2]
        (root / kind).mkdir(parents=True, exist_ok=True)
        texture(number, kind).save(root / kind / f"{number:02d}.png")
    (root / "vertical" / "broken.png").write_bytes(b"no image")
    return f"imagefolder:{root}"


CONDITIONS = ("full", "pixels-16", "latents-768", "jpeg-1500", "latents-16x")


def configure(source, **changes) -> ProbeConfig:
    return ProbeConfig(**{"source": source, "conditions": CONDITIONS, "size": 64, "folds": 4, "threads": 1, **changes})


@pytest.fixture(scope="module")
def probed(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("probed") / "out"
    return probe(configure(source), out, command="cdl compare"), out


def test_latents_keep_what_smaller_pixels_lose(probed):
    results, out = probed
    scores = {each.name: np.mean(each.scores) for each in results.conditions}
    assert scores["full"] > 0.95
    assert scores["pixels-16"] < scores["full"] - 0.05
    assert scores["latents-768"] > 0.95
    assert {each.kind: each.bytes for each in results.answer.sufficient} == {"pixels": 64 * 64 * 3, "latents": 768}
    assert results.answer.ratio == 16
    assert "no smaller pixels that were measured are" in results.answer.sentence
    assert load_results(out).to_json() == json.loads(json.dumps(results.to_json()))


def test_what_is_recorded_of_it(probed):
    results, _ = probed
    assert (results.method, results.metric, results.source.test) == ("probe", "auc", "4 folds")
    assert (results.source.num_test, len(results.source.keys)) == (40, 40)
    conditions = {each.name: each for each in results.conditions}
    assert [run.name for run in conditions["full"].runs] == ["fold 1", "fold 2", "fold 3", "fold 4"]
    tested = np.sum([np.array(run.predicted) >= 0 for run in conditions["full"].runs], 0)
    assert (tested == 1).all()
    assert conditions["pixels-16"].bytes_per_sample == conditions["latents-768"].bytes_per_sample == 768
    assert conditions["jpeg-1500"].bytes_per_sample <= 1500
    assert conditions["latents-768"].psnr_db > conditions["pixels-16"].psnr_db
    assert conditions["latents-16x"].stored == "12 channels of 8 × 8"
    assert ("latents-768", "pixels-16") in [(each.condition, each.baseline) for each in results.differences]
    assert results.samples
    assert set(results.samples[0].seen) == set(CONDITIONS)


def test_another_condition_and_a_repetition_compute_only_what_is_new(source, probed, monkeypatch):
    results, out = probed
    computed = []
    original = observe_conditions._compute

    def compute(images, forms, *rest):
        computed.append([form.condition.name for form in forms])
        return original(images, forms, *rest)

    monkeypatch.setattr(observe_conditions, "_compute", compute)
    again = probe(configure(source, conditions=(*CONDITIONS, "pixels-32")), out)
    assert computed == [["pixels-32"]]
    assert [each.scores for each in again.conditions[:-1]] == [each.scores for each in results.conditions]
    computed.clear()
    probe(configure(source), out)
    assert computed == []


def test_a_damaged_block_is_computed_again(source, probed):
    results, out = probed
    for path in (out / "features").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-7])
    again = probe(configure(source), out)
    assert [each.scores for each in again.conditions] == [each.scores for each in results.conditions]


def test_scrambled_labels_are_guessed(source, tmp_path):
    root = tmp_path / "scrambled"
    names = ["cat", "dog"] * 20
    random.Random(1).shuffle(names)
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        texture(number, ("horizontal", "vertical")[number % 2]).save(root / name / f"{number:02d}.png")
    results = probe(configure(f"imagefolder:{root}", conditions=("full", "latents-768")), tmp_path / "out")
    for each in results.conditions:
        assert 0.2 < np.mean(each.scores) < 0.8


def test_a_test_split_is_used_if_it_is_large_or_wanted(tmp_path):
    root = tmp_path / "photos"
    for number in range(24):
        folder = root / ("test" if number >= 16 else "train") / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture(number, 64, 64).save(folder / f"{number}.png")
    source = f"imagefolder:{root}"
    conditions = ("full", "pixels-32")
    joined = probe(configure(source, conditions=conditions, folds=None), tmp_path / "a")
    assert (joined.source.test, joined.source.num_test) == ("5 folds", 24)
    split = probe(configure(source, conditions=conditions, folds=1), tmp_path / "b")
    assert (split.source.test, split.source.num_test, split.source.num_train) == ("split test", 8, 16)
    assert [run.name for run in split.conditions[0].runs] == ["test split"]
    assert all(each.low is not None for each in split.differences)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"conditions": ("full@32",)}, "a probe shows images at their own size; omit what stands after @ or :"),
        ({"conditions": ("latents-16x:channels",)}, "a probe shows images at their own size"),
        ({"conditions": ("latents-99999",)}, "'latents-99999': 99,999 bytes a sample; these latents take 8 to 3,072"),
        ({"conditions": ("full", "full")}, "contain duplicates; give each once"),
        ({"margin": 1.5}, "margin is 1.5; it must be at least 0 and below 1"),
        ({"folds": 0}, "0 folds; give at least 2, or 1 for the test split"),
        ({"folds": 1}, "has the splits train; give --folds 5"),
        ({"weights": "weights.safetensors"}, "weights weights.safetensors of which model"),
    ],
)
def test_wrong_calls(source, tmp_path, changes, expected):
    with pytest.raises(CallError) as caught:
        probe(configure(source, **changes), tmp_path / "out")
    assert expected in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_class_of_one_image_is_named(tmp_path):
    root = tmp_path / "photos"
    for label, count in (("cat", 5), ("dog", 1)):
        (root / label).mkdir(parents=True)
        for number in range(count):
            picture(number, 64, 64).save(root / label / f"{number}.png")
    with pytest.raises(CallError, match=r"has classes of fewer than two images \(dog 1\).*give each class at least"):
        probe(configure(f"imagefolder:{root}", folds=None), tmp_path / "out")


def test_three_images_of_a_class_are_cross_validated(tmp_path):
    root = tmp_path / "photos"
    for label, count in (("cat", 17), ("dog", 3)):
        (root / label).mkdir(parents=True)
        for number in range(count):
            picture(number, 64, 64).save(root / label / f"{number}.png")
    results = probe(configure(f"imagefolder:{root}", folds=None, conditions=("full", "pixels-16")), tmp_path / "out")
    assert results.source.test == "3 folds"
    assert any("Only 20 samples were tested" in note for note in results.answer.notes)


def test_two_images_of_each_class_are_enough_for_a_report(tmp_path):
    """Then each fold trains on one, which leaves no choice of the penalty."""
    for label in ("cat", "dog", "fox"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(2):
            picture(ord(label[0]) + number, 64, 64).save(tmp_path / "photos" / label / f"{number}.png")
    config = configure(f"imagefolder:{tmp_path / 'photos'}", folds=None, conditions=("full", "pixels-16"))
    results = probe(config, tmp_path / "out")
    assert (results.source.test, results.conditions[0].setting) == ("2 folds", {"C": 0.01})
    assert "does not tell the classes apart" in results.answer.sentence or results.answer.sufficient


def test_images_that_cannot_be_read_are_named(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "photos" / label / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(JobError, match="none of the 6 images of photos can be used; check the source"):
        probe(configure(f"imagefolder:{tmp_path / 'photos'}"), tmp_path / "out")


def test_details_of_a_pyramid_are_those_of_a_haar_transform():
    """The finest level, of one cell, by sums over 2 × 2 blocks; and equal images have equal features."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8)
    found = PyramidFeatures().compute(images)
    luma = images.double().mean(1) / 255
    blocks = luma.reshape(2, 32, 2, 32, 2)
    horizontal = (blocks[:, :, :, :, 0] - blocks[:, :, :, :, 1]).sum(2) / 4
    expected = (horizontal[:, :8, :8].abs().mean((1, 2)) + 1 / 255).log()
    assert torch.allclose(found[:, 3 * 64].double(), expected, atol=1e-5)
    assert torch.equal(PyramidFeatures().compute(images[1:]), found[1:])


def test_pixels_are_those_of_the_resize_codec_enlarged():
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    form = condition_form(parse_condition("pixels-16", Setting(64, 3)), (3, 64, 64))
    restored, sizes = form.restore(images)
    small = load_codec("resize-rgb-16x").encode(images)
    enlarged = torch.nn.functional.interpolate(small.float() / 255 - 0.5, size=(64, 64), mode="bicubic")
    assert sizes == [768]
    assert (restored.float() - ((enlarged + 0.5) * 255)).clamp(0, 255).abs().max() <= 1


def test_the_demo_takes_a_folder(tmp_path):
    assert demo_config().source == "sample:elpv"
    assert demo_config(tmp_path).source == f"imagefolder:{tmp_path}"
    with pytest.raises(CallError, match="is not a folder; give one with a folder of images for each class"):
        demo_config(tmp_path / "nowhere")
