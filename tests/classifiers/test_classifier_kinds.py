"""What classifiers cannot train on yet is refused in one line; stored views are drawn in training."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "latents"))

from any_samples import write_any_set
from small_sets import make_spec

import classifiers
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import LabelSpec, SampleLayout

IMAGES = (2, 4, 4)


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_other_labels_than_class_numbers_are_refused(tmp_path, kind):
    write_any_set(tmp_path, SampleLayout(make_spec(), IMAGES, LabelSpec(kind, 3)), {"train": [4]})
    with pytest.raises(CallError, match=rf"classifiers learn class numbers, the labels of .* are of kind '{kind}'"):
        classifiers.create_model("test_resnet", open_latents(tmp_path), stem="channels")


def test_samples_that_differ_in_size_are_refused(tmp_path):
    write_any_set(tmp_path, SampleLayout(make_spec(), (2, None, None), LabelSpec("class", 3)), {"train": [4]})
    with pytest.raises(CallError, match=r"take latents of one size, the samples of .* differ; prepare them with"):
        classifiers.create_model("test_resnet", open_latents(tmp_path), stem="channels")


def test_training_draws_views_and_evaluation_takes_the_first(tmp_path):
    layout = SampleLayout(make_spec(), IMAGES, LabelSpec("class", 3), num_views=2)
    (tmp_path / "set").mkdir()
    write_any_set(tmp_path / "set", layout, {"train": [24]})
    train_set = open_latents(tmp_path / "set")
    config = classifiers.TrainConfig(epochs=2, batch_size=8, ema_decay=0.0)
    model = classifiers.create_model("test_resnet", train_set, stem="channels", grid=16)
    classifiers.train(model, train_set, None, config, tmp_path / "run", device="cpu")
    logits = classifiers.predict(model, train_set).logits
    first, second = (
        model(open_latents(tmp_path / "set", view=view).gather(range(24))[0]).detach().numpy() for view in (0, 1)
    )
    np.testing.assert_allclose(logits, first, atol=1e-4)
    assert abs(logits - second).max() > 1e-3
