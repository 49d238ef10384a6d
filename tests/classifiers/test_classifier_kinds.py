"""Kinds of data that classifiers do not support are refused in one line; stored views are drawn in training."""

import pytest

import classifiers
from tests.support.any_samples import write_any_set
from tests.support.small_sets import make_spec
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import LabelSpec, SampleLayout

IMAGES = (2, 4, 4)


def test_samples_that_differ_in_size_need_a_crop(tmp_path):
    write_any_set(tmp_path, SampleLayout(make_spec(), (2, None, None), LabelSpec("class", 3)), {"train": [4]})
    with pytest.raises(
        CallError, match=r"samples of .* differ in size; give the crop in latents that a classifier takes"
    ):
        classifiers.create_model("test_resnet", open_latents(tmp_path), stem="channels")


def test_a_run_is_evaluated_on_one_view(tmp_path):
    layout = SampleLayout(make_spec(), IMAGES, LabelSpec("class", 3), num_views=2)
    (tmp_path / "set").mkdir()
    write_any_set(tmp_path / "set", layout, {"train": [24], "test": [12]})
    train_set, second = open_latents(tmp_path / "set"), open_latents(tmp_path / "set", "test", view=1)
    model = classifiers.create_model("test_resnet", train_set, stem="channels", grid=16)
    config = classifiers.TrainConfig(epochs=1, batch_size=8)
    record = classifiers.train(model, train_set, second, config, tmp_path / "run", device="cpu")
    again = open_latents(tmp_path / "set", view=1)  # training draws from all views
    assert classifiers.train(model, again, second, config, tmp_path / "run", device="cpu") == record
    with pytest.raises(CallError, match=r"has data.validation.view 1, but this call has 0; repeat the call"):
        classifiers.train(model, again, open_latents(tmp_path / "set", "test"), config, tmp_path / "run", device="cpu")


def test_training_draws_views_and_evaluation_uses_the_first(tmp_path):
    layout = SampleLayout(make_spec(), IMAGES, LabelSpec("class", 3), num_views=2)
    (tmp_path / "set").mkdir()
    content = write_any_set(tmp_path / "set", layout, {"train": [24]})["train"]
    train_set = open_latents(tmp_path / "set")
    model = classifiers.create_model("test_resnet", train_set, stem="channels", grid=16)
    seen: list[bytes] = []
    model.register_forward_pre_hook(lambda _, inputs: seen.extend(codes.numpy().tobytes() for codes in inputs[0]))
    config = classifiers.TrainConfig(epochs=4, batch_size=8)
    classifiers.train(model, train_set, None, config, tmp_path / "run", device="cpu")
    views = [{codes[view].tobytes() for codes in content.codes} for view in (0, 1)]
    assert len(seen) == 4 * 24
    assert all(set(seen) & of_view for of_view in views)
    assert set(seen) <= views[0] | views[1]
    seen.clear()
    classifiers.predict(model, train_set)
    assert set(seen) == views[0]
