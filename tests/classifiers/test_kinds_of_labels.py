"""Several classes a sample, and regression: from the data set to the saved run, and what does not fit together."""

import dataclasses

import numpy as np
import pytest
import torch

from classifiers import (
    MultilabelMetrics,
    RegressionMetrics,
    TrainConfig,
    create_model,
    evaluate,
    load_classifier,
    predict,
    train,
)
from classifiers.models.scale import TargetScale
from classifiers.runs.load import load_record
from tests.support.tiny_datasets import identity_layer, make_spec, patterned_split
from walloc_cdl.errors import CallError
from walloc_cdl.training import RunFolder

CONFIG = TrainConfig(epochs=6, batch_size=16, lr=4e-3, model_ema_decay=0.9)
ONCE = TrainConfig(epochs=1, batch_size=32)


def trained(sets, out, config=CONFIG):
    return train(
        lambda: create_model("test_resnet", sets["train"]), sets["train"], sets["validation"], config, out, device="cpu"
    )


def test_several_classes_a_sample_are_learned(patterned, tmp_path):
    record = trained(patterned, tmp_path / "run")
    assert isinstance(record.metrics, MultilabelMetrics)
    assert record.metrics.mean_average_precision > 0.9
    assert record.metrics.num_samples == 96
    model = load_classifier(tmp_path / "run")
    assert (model.config.label_kind, model.config.output_names) == ("multilabel", ("across", "along", "bright"))
    again = evaluate(model, patterned["validation"])
    assert again.figures() == pytest.approx(record.metrics.figures(), abs=1e-6)
    probabilities = predict(model, patterned["validation"]).probabilities
    assert probabilities.shape == (96, 3)
    assert ((probabilities > 0.5).sum(1) > 1).any()  # not one class a sample
    assert load_record(RunFolder(tmp_path / "run")) == record
    assert (tmp_path / "run" / "classes.csv").read_text().splitlines()[1].startswith("0,across,")
    assert trained(patterned, tmp_path / "run") == record  # a finished run


def test_regression_targets_of_any_unit_are_learned(graded, tmp_path):
    record = trained(graded, tmp_path / "run")
    assert isinstance(record.metrics, RegressionMetrics)
    assert record.metrics.targets["samples"] == [96, 96 - 14]  # some are unknown
    assert min(record.metrics.targets["r2"]) > 0.5
    model = load_classifier(tmp_path / "run")
    assert model.config.output_names == ("brightness", "strength")
    assert evaluate(model, graded["validation"]).figures() == pytest.approx(record.metrics.figures(), rel=1e-4)
    predictions = predict(model, graded["validation"])
    assert predictions.logits[:, 0].mean() == pytest.approx(5000, abs=300)  # in the units of the targets
    assert load_record(RunFolder(tmp_path / "run")) == record
    assert (tmp_path / "run" / "classes.csv").read_text().splitlines()[0] == "target,name,samples,mae,rmse,r2"


def test_the_scale_of_targets():
    targets = np.array([[1, 7, np.nan], [3, 7, np.nan]], np.float32)
    scale = TargetScale.of(targets)
    assert scale.mean.tolist() == [2, 7, 0]
    assert scale.std.tolist() == [1, 1, 1]  # of a constant, and of an unknown target, 1
    outputs = torch.tensor([[0.5, -1, 2]])
    torch.testing.assert_close(scale.standardized(scale(outputs)), outputs)
    assert TargetScale.of(np.array([10, 30], np.float32)).std.tolist() == [10]


def test_one_target_is_a_number_for_each_sample(graded, write, tmp_path):
    parts = {name: (part.gather(range(len(part)))) for name, part in graded.items()}
    splits = {name: (codes.numpy(), labels[:, 0].numpy().copy()) for name, (codes, labels) in parts.items()}
    sets = write("one", graded["train"].spec, splits, target_names=("brightness",), bank={1: identity_layer()})
    assert sets["train"].labels.shape == (256,)
    record = trained(sets, tmp_path / "run", ONCE)
    assert record.metrics.num_targets == 1


def test_kinds_that_do_not_fit_are_refused(striped, patterned, graded, tmp_path):
    model = create_model("test_resnet", striped["train"])
    with pytest.raises(CallError, match=r"learned labels of kind 'class', but those of .* are of kind 'multilabel'"):
        train(model, patterned["train"], None, ONCE, tmp_path / "run", device="cpu")
    with pytest.raises(CallError, match=r"num_classes is 9, but the labels of .* are of 2 targets; omit it"):
        create_model("test_resnet", graded["train"], num_classes=9)
    with pytest.raises(CallError, match=r"num_classes is 9, but the labels of .* are of 3 classes; omit it"):
        create_model("test_resnet", patterned["train"], num_classes=9)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("patterned", {"loss": "cross_entropy"}, r"loss cross_entropy does not go with .* multilabel.* one of bce"),
        ("graded", {"loss": "bce"}, r"loss bce does not go with labels of kind regression.* one of mse, l1, huber"),
        ("striped", {"loss": "mse"}, r"loss mse does not go with labels of kind class.* one of cross_entropy, bce"),
        ("graded", {"smoothing": 0.1}, r"smoothing is for classes, but .* has regression targets; omit"),
        ("graded", {"class_weights": "balanced"}, r"class_weights is for classes, but .* regression targets; omit"),
        ("graded", {"sampling": "balanced"}, r"balanced sampling needs one class a sample, .* of kind 'regression'"),
        ("patterned", {"sampling": "balanced"}, r"sample uniformly, with class weights in the loss"),
        ("striped", {"bce_sum": True}, r"bce_target_thresh and bce_sum are settings of the loss bce, not of cross_ent"),
        ("striped", {"class_weights": (1.0, 2.0, 3.0)}, r"3 class weights for 2 classes; give one for each"),
    ],
)
def test_settings_of_other_kinds_are_refused_before_anything_is_written(request, tmp_path, kind, changes, message):
    sets = request.getfixturevalue(kind)
    with pytest.raises(CallError, match=message):
        trained(sets, tmp_path / "run", dataclasses.replace(ONCE, **changes))
    assert not (tmp_path / "run").exists()


def test_other_targets_or_other_classes_are_refused(patterned, graded, write):
    model = create_model("test_resnet", graded["train"])
    content = graded["train"].gather([0, 1, 2])
    splits = {"train": (content.codes.numpy(), content.labels.numpy())}
    others = write("others", graded["train"].spec, splits, target_names=("brightness", "length"))
    with pytest.raises(CallError, match=r"target 1 of the classifier is 'strength', but of .* it is 'length'; prepare"):
        evaluate(model, others["train"])
    spec = make_spec(latent_channels=3, stride=2, companding="none")
    model = create_model("test_resnet", patterned["train"])
    turned = write("turned", spec, {"train": patterned_split(spec, 8, 16, 1)}, class_names=("a", "b", "c"))
    with pytest.raises(CallError, match=r"class 0 of the classifier is 'across', but of .* it is 'a'"):
        evaluate(model, turned["train"])


def test_labels_that_are_all_the_same_are_refused(patterned, write, tmp_path):
    content = patterned["train"].gather(range(16))
    same = np.tile(np.uint8([1, 0, 1]), (16, 1))
    data = write("same", patterned["train"].spec, {"train": (content.codes.numpy(), same)}, class_names=("a", "b", "c"))
    with pytest.raises(CallError, match=r"have the same classes, so there is nothing to learn"):
        train(create_model("test_resnet", data["train"]), data["train"], None, ONCE, tmp_path / "run", device="cpu")


@pytest.mark.parametrize("kind", ["patterned", "graded"])
def test_a_resumed_run_has_the_weights_of_a_whole_one(request, tmp_path, kind):
    sets = request.getfixturevalue(kind)
    config = dataclasses.replace(ONCE, epochs=2)
    whole = trained(sets, tmp_path / "whole", config)

    def stop(state):
        if state.step == 12:
            raise KeyboardInterrupt

    arguments = (lambda: create_model("test_resnet", sets["train"]), sets["train"], sets["validation"], config)
    with pytest.raises(KeyboardInterrupt):
        train(*arguments, tmp_path / "parts", device="cpu", progress=stop)
    assert train(*arguments, tmp_path / "parts", device="cpu").weights_sha256 == whole.weights_sha256


def test_the_commands_take_every_kind(patterned, graded, tmp_path, capsys):
    from walloc_cdl.cli.app import run

    options = ["--model", "test_resnet", "--epochs", "1", "--batch-size", "32", "--threads", "1"]
    for sets, expected in ((patterned, ["mAP", "micro F1", "average precision"]), (graded, ["MAE", "R²", "RMSE"])):
        folder, out = sets["train"].folder, tmp_path / f"run of {expected[0]}"
        assert run(["train", str(folder), "--out", str(out), *options]) == 0
        text = capsys.readouterr().out
        assert all(name in text for name in expected), text
        assert run(["evaluate", str(out), str(folder), "--split", "validation"]) == 0
        text = capsys.readouterr().out
        assert all(name in text for name in expected), text


def test_the_options_of_the_command_are_settings_of_the_run(striped, tmp_path, capsys):
    from walloc_cdl.cli.app import run

    folder, out = striped["train"].folder, tmp_path / "run"
    call = ["train", str(folder), "--model", "test_resnet", "--epochs", "1", "--threads", "1", "--out", str(out)]
    settings = [
        *("--loss", "bce", "--smoothing", "0.1", "--bce-target-thresh", "0.2", "--bce-sum", "--class-weights", "1,2.5"),
        *("--sampling", "balanced", "--mixup", "0.2", "--cutmix", "1", "--mixup-prob", "0.9"),
        *("--mixup-switch-prob", "0.4", "--mixup-off-epoch", "3"),
    ]
    assert run([*call, *settings]) == 0
    config = RunFolder(out).load_config()["train"]
    expected = TrainConfig(
        loss="bce",
        smoothing=0.1,
        bce_target_thresh=0.2,
        bce_sum=True,
        class_weights=(1.0, 2.5),
        sampling="balanced",
        mixup=0.2,
        cutmix=1.0,
        mixup_prob=0.9,
        mixup_switch_prob=0.4,
        mixup_off_epoch=3,
    ).to_json()
    for name in ("loss", "smoothing", "bce_target_thresh", "bce_sum", "class_weights", "sampling"):
        assert config[name] == expected[name]
    assert {name: config[name] for name in config if "mix" in name} == {
        name: expected[name] for name in expected if "mix" in name
    }
    capsys.readouterr()
    assert run([*call, "--class-weights", "rare"]) == 2
    assert "class_weights is 'rare'; it must be 'balanced', or a number for each class" in capsys.readouterr().err
