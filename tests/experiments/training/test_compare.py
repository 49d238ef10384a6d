import dataclasses
import json
import shutil

import numpy as np
import pytest
import soundfile
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from classifiers import TrainConfig
from experiments.comparison.results import load_results
from experiments.training.compare import CompareConfig, Progress, compare
from tests.support.pictures import picture
from walloc_cdl.augment.config import PRESETS
from walloc_cdl.codec import load_codec
from walloc_cdl.errors import CallError
from walloc_cdl.latents import load_manifest
from walloc_cdl.training import loop

CONDITIONS = ("pixels-16", "latents-16x", "latents-16x:channels")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two classes, 16 images to train on and 8 to test on."""
    root = tmp_path_factory.mktemp("source") / "photos"
    seed = 0
    for split, each in (("train", 8), ("test", 4)):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for number in range(each):
                picture(seed, 70, 64).save(root / split / label / f"{number}.png")
                seed += 1
    return root


def configure(source, **changes) -> CompareConfig:
    fields = {"source": str(source), "conditions": CONDITIONS, "model": "test_resnet", "size": 64, "num_seeds": 2}
    fields |= {"workers": 0, "costs": False, "training": TrainConfig(epochs=1, batch_size=8)}
    return CompareConfig(**{**fields, **changes})


def configurations(outcome, part):
    """A part of the configuration of the first run of each condition."""
    return [condition.runs[0].record["config"][part] for condition in outcome.conditions]


def test_a_comparison_and_its_repetition(source, tmp_path):
    config, out, states = configure(source), tmp_path / "out", []
    outcome = compare(config, out, progress=states.append)

    assert [condition.name for condition in outcome.conditions] == list(CONDITIONS)
    assert {condition.values_per_sample for condition in outcome.conditions} == {3 * 16 * 16}
    assert {condition.grid for condition in outcome.conditions} == {16}
    assert (outcome.source.num_train, outcome.source.num_test) == (16, 8)
    assert outcome.metric == "auc"  # two classes, both in the test split
    assert [(d.condition, d.baseline) for d in outcome.differences] == [
        ("latents-16x", "pixels-16"),
        ("latents-16x:channels", "pixels-16"),
    ]
    pixels, latents, channels = outcome.conditions
    assert outcome.differences[0].per_seed == pytest.approx(
        [ours - theirs for ours, theirs in zip(latents.scores, pixels.scores, strict=True)]
    )
    assert [run.record["seeds"]["train"] for run in latents.runs] == [0, 1]
    assert [run.name for run in latents.runs] == ["seed 0", "seed 1"]
    assert {len(run.predicted) for run in latents.runs} == {8}
    assert min(pixels.psnr_db, latents.psnr_db) > 20
    assert (pixels.stored, latents.stored) == ("16 × 16 pixels", "12 channels of 8 × 8")
    assert (latents.seen, channels.seen) == ("16 × 16 pixels", "latent channels")
    assert set(outcome.samples[0].seen) == {"pixels-16", "latents-16x"}
    assert load_results(out).to_json() == json.loads(json.dumps(outcome.to_json()))
    assert {state.phase for state in states} >= {"prepare rgb-16x", "latents-16x:channels, seed 1"}
    assert {"report.html", "table.md", "results.csv", "curve.svg"} < {path.name for path in out.iterdir()}

    states.clear()
    records = [condition.runs for condition in outcome.conditions]  # they contain the times of training
    again = compare(config, out, progress=states.append)
    assert [condition.runs for condition in again.conditions] == records
    assert again == outcome  # no cost was measured
    trained = Progress("latents-16x, seed 1", 0, 0, "trained already")
    assert trained in states
    assert not any(state.total and "seed" in state.phase for state in states)

    with pytest.raises(CallError, match=r"has train\.lr"):  # runs of another recipe are not mixed in
        compare(configure(source, training=TrainConfig(epochs=1, batch_size=8, lr=0.5)), out)
    assert load_results(out).answer == outcome.answer


def test_budgets_of_bit_planes_are_read_from_one_data_set(source, tmp_path):
    conditions = ("pixels-16", "latents-768@16", "latents-192@16")
    outcome = compare(configure(source, conditions=conditions, num_seeds=1), tmp_path / "out")
    assert [condition.bytes_per_sample for condition in outcome.conditions] == [768, 768, 192]
    assert [(d.condition, d.baseline) for d in outcome.differences] == [("latents-768@16", "pixels-16")]
    assert sorted(path.name for path in (tmp_path / "out" / "latents").iterdir()) == ["resize-rgb-16x", "rgb"]
    assert load_manifest(tmp_path / "out" / "latents" / "rgb").spec.num_planes == 96
    assert [config["spec"].get("planes") for config in configurations(outcome, "classifier")] == [
        None,
        list(load_codec("rgb").spec.planes[:96]),
        list(load_codec("rgb").spec.planes[:24]),
    ]


def test_the_default_curve_and_its_costs(source, tmp_path):
    """Full images are those that the model's grid shows, and count with all of their bytes."""
    config = configure(source, conditions=None, num_seeds=1, grid=32, costs=True)
    outcome = compare(config, tmp_path / "out")
    assert [condition.name for condition in outcome.conditions] == ["full", "pixels-16", "latents-768"]
    full, pixels, latents = outcome.conditions
    assert (full.bytes_per_sample, full.stored, full.seen) == (64 * 64 * 3, "64 × 64 pixels", "32 × 32 pixels")
    assert {condition.grid for condition in outcome.conditions} == {32}
    assert outcome.answer.reference == "full"
    assert "nothing can be said of bytes" in outcome.answer.sentence  # eight images, after one epoch
    assert [(d.condition, d.baseline) for d in outcome.differences] == [
        ("latents-768", "pixels-16"),
        ("pixels-16", "full"),
        ("latents-768", "full"),
    ]
    assert pixels.costs.total_bytes == latents.costs.total_bytes == 24 * 768
    assert latents.costs.flops > 0
    assert [each.condition for each in outcome.break_even] == ["latents-768"]
    assert outcome.statistics[0].codec == "rgb"
    assert [prefix.bytes for prefix in outcome.statistics[0].prefixes] == [768]
    assert "What it costs" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_another_condition_computes_only_itself(source, tmp_path):
    config, states = configure(source, conditions=("pixels-16", "latents-16x"), num_seeds=1), []
    first = compare(config, tmp_path)
    more = dataclasses.replace(config, conditions=("full@16", *config.conditions))
    second = compare(more, tmp_path, progress=states.append)
    assert {state.phase.partition(",")[0] for state in states if state.total and "seed" in state.phase} == {"full@16"}
    assert [condition.runs for condition in second.conditions[1:]] == [condition.runs for condition in first.conditions]


def test_pretrained_models_see_the_whole_image_in_every_condition(source, tmp_path):
    """Latents of 8 pixels reach the model's own 160 pixels in blocks of 20, smaller images only by resizing."""
    weights = tmp_path / "weights.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), weights)
    training = TrainConfig(epochs=1, batch_size=8, freeze_until="head")
    config = configure(source, conditions=("full", "pixels-16", "latents-768"), num_seeds=1, training=training)
    with pytest.raises(CallError, match="layers before head are frozen, but without pretrained weights"):
        compare(config, tmp_path / "out")
    outcome = compare(dataclasses.replace(config, pretrained=weights), tmp_path / "out")
    assert {condition.seen for condition in outcome.conditions} == {"160 × 160 pixels"}
    fits = [each["fit"] for each in configurations(outcome, "classifier")]
    assert {None if fit is None else fit["crop_pct"] for fit in fits} <= {None, 1.0}
    assert outcome.weights == "weights.safetensors"
    assert ("latents-768", "pixels-16") in [(each.condition, each.baseline) for each in outcome.differences]


def test_flat_images_are_restored_exactly(tmp_path):
    """Their PSNR is infinite, which is no number of JSON."""
    for number in range(8):
        folder = tmp_path / "flat" / ("train", "test")[number // 4] / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (10 * number,) * 3).save(folder / f"{number}.png")
    outcome = compare(configure(tmp_path / "flat", conditions=("full@16", "pixels-16"), num_seeds=1), tmp_path / "out")
    assert outcome.conditions[1].psnr_db is None


def test_files_are_for_probes(source, tmp_path):
    with pytest.raises(CallError, match=r"'jpeg-768': no model is trained on JPEG files.*omit it, or use --probe"):
        compare(configure(source, conditions=("jpeg-768",)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_budget_beyond_the_codec_is_refused_before_anything_is_encoded(source, tmp_path):
    message = r"condition 'latents-99999': 99,999 bytes a sample; these latents take 8 to 3,072, 8 a plane"
    with pytest.raises(CallError, match=message):
        compare(configure(source, conditions=("latents-99999",)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_conditions_are_augmented_alike(source, tmp_path):
    training = TrainConfig(epochs=1, batch_size=8, augment=PRESETS["light"])
    with pytest.raises(CallError, match=r"condition 'latents-16x:channels' shows no pixels, which are augmented; omit"):
        compare(configure(source, training=training), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    config = configure(source, conditions=("pixels-16", "latents-16x"), num_seeds=1, training=training)
    outcome = compare(config, tmp_path / "out")
    assert [config["augment"]["hflip"] for config in configurations(outcome, "train")] == [
        0.5,
        0.5,
    ]


def test_a_test_split_is_held_out_of_a_source_without_one(source, tmp_path):
    outcome = compare(configure(source / "train", conditions=("pixels-16",), num_seeds=1), tmp_path)
    assert (outcome.source.num_train, outcome.source.num_test) == (12, 4)
    assert outcome.differences == []
    assert any("One seed was trained" in note for note in outcome.answer.notes)


def test_a_source_without_classes_is_refused(source, tmp_path):
    with pytest.raises(CallError, match="has fewer than two classes; give a source with labels"):
        compare(configure(source / "train" / "cat"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_grid_without_a_synthesis_is_refused_before_anything_is_encoded(source, tmp_path):
    message = (
        r"condition 'latents-16x@7': a grid of 7 pixels does not go with latents of height 8; "
        r"choose one of 8, 16, 24, 32, 40, 48"
    )
    with pytest.raises(CallError, match=message):
        compare(configure(source, conditions=("pixels-16", "latents-16x@7")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_metric_of_a_test_split_of_one_class_is_accuracy(source, tmp_path):
    root = tmp_path / "photos"
    for folder in ("train/cat", "train/dog", "test/cat"):
        (root / folder).mkdir(parents=True)
        for path in sorted((source / folder).iterdir())[:4]:
            (root / folder / path.name).write_bytes(path.read_bytes())
    outcome = compare(configure(root, conditions=("pixels-16", "latents-16x"), num_seeds=1), tmp_path / "out")
    assert outcome.metric == "accuracy"


def test_a_limit_is_a_share_of_each_class_and_a_test_split_without_labels_is_not_used(source, tmp_path):
    root = tmp_path / "photos"
    shutil.copytree(source, root)
    for path in sorted((root / "test").glob("*/*")):
        path.rename(root / "test" / f"{path.parent.name}-{path.name}")
    config = configure(root, conditions=("pixels-16",), num_seeds=1, limit=4)
    outcome = compare(config, tmp_path / "out")
    assert (outcome.source.num_train, outcome.source.num_test) == (4, 4)
    manifest = load_manifest(next((tmp_path / "out" / "latents").iterdir()))
    assert manifest.splits["train"].class_counts == [2, 2]
    assert manifest.splits["held_out"].class_counts == [2, 2]
    assert (manifest.source["limit"], manifest.source["limit_seed"]) == (4, 0)


def test_all_runs_of_a_comparison_have_the_threads_of_the_first(source, tmp_path, monkeypatch):
    numbers = iter([2, 1, 1])
    monkeypatch.setattr(loop, "choose_threads", lambda work, num_calls: next(numbers))
    config = configure(source, conditions=("pixels-16", "latents-16x"), num_seeds=1)
    outcome = compare(config, tmp_path)
    assert outcome.environment["threads"] == 2  # a list if the runs differed
    shutil.rmtree(tmp_path / "runs" / "pixels-16")  # the first run is to be trained again, the other is finished
    assert compare(config, tmp_path).environment["threads"] == 2
    assert next(numbers) == 1
    with pytest.raises(CallError, match=r"were trained with 2 threads, but threads is 1, which gives other weights"):
        compare(dataclasses.replace(config, threads=1), tmp_path)
    with pytest.raises(CallError, match="threads is 0; it must be at least 1"):
        compare(dataclasses.replace(config, threads=0), tmp_path)


@pytest.mark.parametrize(("name", "samples"), [("audio", "sound"), ("arrays", "arrays of many channels")])
def test_sources_of_sound_and_of_arrays_are_refused_in_terms_of_the_source(tmp_path, name, samples):
    folder = tmp_path / name
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        if name == "audio":
            soundfile.write(folder / label / "1.wav", np.zeros(4000, np.float32), 8000)
    if name == "arrays":
        np.save(folder / "cube.npy", np.zeros((64, 64, 8), np.float32))
    text = f"{'audiofolder' if name == 'audio' else 'npy'}:{folder}"
    with pytest.raises(CallError, match=rf"^{name} holds {samples}, but comparisons are of images, .*; give a source"):
        compare(configure(text), tmp_path / "out")
    assert not (tmp_path / "out").exists()
