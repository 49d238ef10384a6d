"""`train` learns, resumes bit-exactly, and refuses folders and data of other runs."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.utils.data import ConcatDataset, Subset
from torch.utils.data import random_split as split_at_random

from classifiers import Metrics, RunRecord, TrainConfig, create_model, evaluate, load_classifier, train
from tests.support.memory import PeakMemory
from tests.support.tiny_datasets import make_spec, random_split
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError, DamagedError, JobError, SpecMismatchError

QUICK = TrainConfig(epochs=3, batch_size=64, lr=2e-3, precision="fp32", seed=3)


class Interrupted(Exception):
    pass


def interrupt_at(step: int):
    def progress(event):
        if event.step == step:
            raise Interrupted

    return progress


def make(dataset, name="test_resnet", **options):
    return lambda: create_model(name, dataset, **options)


@pytest.mark.parametrize("stem", ["synthesis", "channels"])
def test_a_learnable_problem_is_learned(striped, tmp_path, stem):
    record = train(
        make(striped["train"], stem=stem),
        striped["train"],
        striped["validation"],
        TrainConfig(epochs=8, batch_size=32, lr=3e-3, precision="fp32"),
        tmp_path / "run",
    )
    assert record.metrics.accuracy > 0.95
    assert record.metrics.auc > 0.98
    assert record.metrics.num_samples == 96
    assert record.losses[-1] < record.losses[0] / 2
    assert len(record.losses) == 8


def test_subsets_train_and_are_evaluated(striped, tmp_path):
    """As the data sets of the same samples do; another subset of as many samples is another run."""
    first, second = split_at_random(striped["train"], [128, 64], torch.Generator().manual_seed(0))
    config = TrainConfig(epochs=1, batch_size=32, precision="fp32")
    record = train(make(first), first, second, config, tmp_path / "subset")
    assert record.metrics.num_samples == 64
    same = train(make(first), striped["train"].select(first.indices), second, config, tmp_path / "selection")
    assert (same.weights_sha256, same.metrics.accuracy) == (record.weights_sha256, record.metrics.accuracy)
    metrics = evaluate(load_classifier(tmp_path / "subset"), Subset(striped["validation"], range(10)))
    assert metrics.num_samples == 10
    with pytest.raises(CallError, match=r"has data\.train\.rows_sha256 "):
        train(make(first), Subset(striped["train"], range(128)), second, config, tmp_path / "subset")
    for call in (
        lambda other: train(make(other), other, None, config, tmp_path / "other"),
        lambda other: evaluate(load_classifier(tmp_path / "subset"), other),
    ):
        with pytest.raises(CallError, match=r"is a ConcatDataset; expected .* Subset of it; read others with"):
            call(ConcatDataset([first, second]))


def test_a_vision_transformer_trains_with_dropped_paths_and_smoothed_labels(striped, tmp_path):
    config = TrainConfig(epochs=2, batch_size=64, smoothing=0.1, precision="fp32", clip_grad=None)
    record = train(
        make(striped["train"], "test_vit", drop_path_rate=0.2), striped["train"], None, config, tmp_path / "run"
    )
    assert record.metrics is None
    assert np.isfinite(record.losses).all()


@pytest.fixture
def whole(striped, tmp_path):
    return train(make(striped["train"], drop_path_rate=0.3), striped["train"], None, QUICK, tmp_path / "whole")


@pytest.mark.parametrize("step", [3, 4, 6, 8])
def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(striped, tmp_path, whole, step):
    """With three updates per epoch, the run is interrupted at the end of the first (before it is saved), and later.

    Dropped paths draw random numbers; the norms have running statistics.
    """
    arguments = (make(striped["train"], drop_path_rate=0.3), striped["train"], None, QUICK, tmp_path / "resumed")
    with pytest.raises(Interrupted):
        train(*arguments, progress=interrupt_at(step))
    torch.manual_seed(step)  # the global random state at the time of resumption has no effect
    events = []
    resumed = train(*arguments, progress=events.append)
    assert events[0].step == (step - 1) // 3 * 3 + 1
    assert (events[-1].samples_done, events[-1].samples_total) == (3 * 192, 3 * 192)
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.losses == whole.losses
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_the_seed_determines_the_weights(striped, tmp_path):
    shas = [
        train(make(striped["train"]), striped["train"], None, TrainConfig(epochs=1, seed=seed), tmp_path / name)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert shas[0].weights_sha256 == shas[1].weights_sha256 != shas[2].weights_sha256


def test_training_preserves_the_global_random_state(striped, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(make(striped["train"]), striped["train"], None, TrainConfig(epochs=1), tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


@pytest.fixture
def finished(striped, tmp_path):
    record = train(make(striped["train"]), striped["train"], striped["validation"], QUICK, tmp_path / "run")
    return tmp_path / "run", record


def test_a_finished_run_is_returned_unchanged(finished, striped):
    folder, record = finished
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(before) == ["classes.csv", "config.json", "index.html", "model.safetensors", "record.json"]
    again = train(make(striped["train"]), striped["train"], striped["validation"], QUICK, folder)
    assert again == record
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_record_describes_the_run(finished):
    folder, record = finished
    assert record.config["train"] == QUICK.to_json()
    assert record.config["classifier"]["spec"]["companding"] == "none"
    assert record.config["data"]["train"]["num_samples"] == 192
    assert record.seeds == {"train": 3}
    assert record.environment["torch"] == torch.__version__
    assert record.environment["device"] == "cpu"
    assert record.environment["precision"] == "fp32"
    assert record.images_per_s > 0
    assert 3 * 192 / record.elapsed_s == pytest.approx(record.images_per_s, rel=0.9)
    stored = json.loads((folder / "record.json").read_text())
    assert RunRecord.from_json(stored, Metrics, origin="record.json") == record
    assert stored["metrics"]["accuracy"] == record.metrics.accuracy


def test_a_saved_classifier_is_loaded_without_its_data(finished, striped):
    folder, record = finished
    model = load_classifier(folder)
    assert not model.training
    metrics = evaluate(model, striped["validation"])
    assert metrics.confusion == record.metrics.confusion
    assert metrics.figures() == pytest.approx(record.metrics.figures(), abs=1e-6)
    assert model.config.class_names == ("cat", "dog")


def test_the_given_model_has_the_averaged_weights_afterwards(striped, tmp_path):
    model = create_model("test_resnet", striped["train"])
    train(model, striped["train"], None, QUICK, tmp_path / "run")
    stored = load_file(tmp_path / "run" / "model.safetensors")
    for name, value in model.state_dict().items():
        assert np.array_equal(value.numpy(), stored[name]), name


def test_unknown_labels_are_skipped(write, tmp_path):
    spec = make_spec(3, 3, 2, "none")
    codes, labels = random_split(spec, 32, 16)
    labels[1:9] = -1
    unknown = np.full(8, -1)
    data = write("some", spec, {"train": (codes, labels), "test": (codes[:8], unknown)})
    record = train(make(data["train"]), data["train"], data["train"], TrainConfig(epochs=1), tmp_path / "run")
    assert np.isfinite(record.losses).all()
    assert record.metrics.num_samples == 24
    with pytest.raises(CallError, match=r"no sample of split 'test' in .* has a label; prepare it from class folders"):
        train(make(data["train"]), data["train"], data["test"], TrainConfig(), tmp_path / "other")
    with pytest.raises(CallError, match="no sample has a label, so there is nothing to evaluate"):
        evaluate(load_classifier(tmp_path / "run"), data["test"])


def test_one_class_only_is_refused(write, tmp_path):
    spec = make_spec(3, 3, 2, "none")
    data = write("one", spec, {"train": (random_split(spec, 8, 16)[0], np.zeros(8, np.int64))})
    with pytest.raises(CallError, match=r"'train' in .* have the same class, .*; prepare more of the source"):
        train(make(data["train"]), data["train"], None, QUICK, tmp_path / "run")


def test_another_configuration_is_refused_with_both_values(finished, striped):
    folder, _ = finished
    other = dataclasses.replace(QUICK, lr=0.01)
    with pytest.raises(CallError, match=r"the run in .* has train.lr 0.002, but this call has 0.01; repeat the call"):
        train(make(striped["train"]), striped["train"], striped["validation"], other, folder)
    with pytest.raises(CallError, match=r"has classifier.name 'test_resnet', but this call has 'test_vit'"):
        train(make(striped["train"], "test_vit"), striped["train"], striped["validation"], QUICK, folder)
    with pytest.raises(CallError, match=r"has data.validation.manifest_sha256 '\w+', but this call has None; repeat"):
        train(make(striped["train"]), striped["train"], None, QUICK, folder)


def test_an_earlier_run_is_discarded_on_request(finished, striped):
    folder, record = finished
    other = TrainConfig(epochs=1, lr=0.01, precision="fp32")
    again = train(make(striped["train"]), striped["train"], striped["validation"], other, folder, resume=False)
    assert again.config["train"]["lr"] == 0.01
    assert again.weights_sha256 != record.weights_sha256
    load_classifier(folder)


def test_a_folder_with_other_files_is_refused_and_kept(striped, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(
        CallError, match=r"holds files that belong to no run \(striped\); name an empty or a new folder"
    ):
        train(make(striped["train"]), striped["train"], None, QUICK, tmp_path)
    with pytest.raises(CallError, match=r"thesis.tex is a file; name a folder for the run"):
        train(make(striped["train"]), striped["train"], None, QUICK, tmp_path / "thesis.tex")
    (tmp_path / "codec").mkdir()
    (tmp_path / "codec" / "config.json").write_text('{"format": "walloc-cdl-codec"}')
    with pytest.raises(CallError, match=r"is not a run \(its config.json has another format\)"):
        train(make(striped["train"]), striped["train"], None, QUICK, tmp_path / "codec")
    assert (tmp_path / "thesis.tex").read_text() == "x"


def test_data_of_another_codec_or_of_other_classes_are_refused(finished, write):
    model = load_classifier(finished[0])
    other = make_spec(3, 3, 2, "none", codec_id="d" * 64)
    split = {"test": random_split(other, 4, 16)}
    with pytest.raises(
        SpecMismatchError, match=r"the classifier test_resnet has codec_id 'cccccccccccc', but .* 'dddd"
    ):
        evaluate(model, write("codec", other, split)["test"])
    spec = make_spec(3, 3, 2, "none")
    with pytest.raises(CallError, match=r"takes latents of shape \(3, 16, 16\), but .* has \(3, 8, 8\); prepare it"):
        evaluate(model, write("small", spec, {"test": random_split(spec, 4, 8)})["test"])
    with pytest.raises(CallError, match=r"class 1 of the classifier is 'dog', but of the data set .* it is 'fish'"):
        evaluate(model, write("fish", spec, split, class_names=("cat", "fish"))["test"])
    with pytest.raises(CallError, match=r"the classifier has 2 classes, but the data set .* has 3"):
        evaluate(model, write("three", spec, split, class_names=("cat", "dog", "fish"))["test"])


def test_a_diverging_loss_is_reported(striped, tmp_path):
    config = TrainConfig(epochs=2, lr=1e30, warmup_epochs=0, precision="fp32", clip_grad=None)
    with pytest.raises(
        JobError, match=r"the loss is (nan|inf) in epoch \d; choose an lr below 1e\+30, or precision fp32"
    ):
        train(make(striped["train"]), striped["train"], None, config, tmp_path / "run")


def test_a_split_smaller_than_a_batch_trains(write, tmp_path):
    spec = make_spec(3, 3, 2, "none")
    data = write("few", spec, {"train": random_split(spec, 10, 16)})
    record = train(make(data["train"]), data["train"], None, TrainConfig(epochs=1), tmp_path / "run")
    assert len(record.losses) == 1


def test_a_folder_without_a_finished_run_is_refused(finished, striped, tmp_path):
    with pytest.raises(CallError, match=r"is not a run \(no config.json\); name a folder that `cdl train` wrote"):
        load_classifier(tmp_path / "nowhere")
    with pytest.raises(Interrupted):
        train(make(striped["train"]), striped["train"], None, QUICK, tmp_path / "half", progress=interrupt_at(4))
    with pytest.raises(CallError, match="is not finished; run the same `cdl train` again to resume it"):
        load_classifier(tmp_path / "half")


@pytest.mark.parametrize("name", ["model.safetensors", "record.json", "config.json"])
def test_a_truncated_file_is_reported_as_damaged(finished, name):
    path = finished[0] / name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedError, match=f"{name}: .*; restore it from a copy or train again"):
        load_classifier(finished[0])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_classes": 10**8}, r"'backbone.fc.weight' is .* \[2, \d+\], expected torch.float32 \[100000000"),
        ({"name": "vit_large_patch16_224"}, r"'backbone.\S+' is (missing|unknown)"),
        ({"latent_channels": 10**8}, r"'input.table' is of shape \[3, 256\], expected 100000000 latent channels"),
        ({"grid": 16 * 10**5}, r"'stem.weight' is torch.float32 .*, expected torch.float32 \[30000000000"),
    ],
    ids=["classes", "model", "channels", "grid"],
)
def test_a_configuration_of_another_size_than_the_weights_takes_no_memory(finished, changes, reason):
    path = finished[0] / "config.json"
    config = json.loads(path.read_bytes())
    classifier = config["classifier"]
    if channels := changes.pop("latent_channels", None):
        classifier["spec"]["latent_channels"] = classifier["latent_shape"][0] = channels
    path.write_text(json.dumps({**config, "classifier": {**classifier, **changes}}))
    with PeakMemory() as memory, pytest.raises(DamagedError, match=rf"model.safetensors: {reason}.*train again"):
        load_classifier(finished[0])
    assert memory.num_bytes < 10**8


def test_a_configuration_beyond_what_torch_counts_is_reported_as_damaged(finished):
    path = finished[0] / "config.json"
    config = json.loads(path.read_bytes())
    path.write_text(json.dumps({**config, "classifier": {**config["classifier"], "grid": 2**45}}))
    with pytest.raises(DamagedError, match=r"config.json, classifier: [^\n]+verflow[^\n]+; restore it from a copy"):
        load_classifier(finished[0])


def test_a_truncated_checkpoint_is_reported_as_damaged(striped, tmp_path):
    arguments = (make(striped["train"]), striped["train"], None, QUICK, tmp_path / "run")
    with pytest.raises(Interrupted):
        train(*arguments, progress=interrupt_at(4))
    path = tmp_path / "run" / "checkpoint.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(
        DamagedError,
        match=r"checkpoint\.safetensors: SHA-256 of the content is .*; restore it from a copy or train again",
    ):
        train(*arguments)
    path.write_bytes(whole)
    train(*arguments)


def test_a_moved_data_set_is_recognized(finished, striped):
    """The data are identified by the content of the manifest, not by the folder's path."""
    folder, record = finished
    again = open_latents(striped["train"].folder, "train")
    assert train(make(again), again, striped["validation"], QUICK, folder) == record


def test_a_diverged_run_says_so_at_every_start(striped, tmp_path):
    """The last update of the first epoch diverges: the loss before it is finite, but the model is not."""

    def diverge_at(step):
        def progress(event):
            if event.step == step:
                with torch.no_grad():
                    next(models[-1].backbone.parameters()).fill_(float("nan"))

        return progress

    models = []

    def build():
        models.append(create_model("test_resnet", striped["train"]))
        return models[-1]

    arguments = (build, striped["train"], striped["validation"], QUICK, tmp_path / "run")
    with pytest.raises(JobError, match=r"^weights are not finite in epoch 2; choose an lr below 0\.002, or precision"):
        train(*arguments, progress=diverge_at(6))
    for _ in range(2):
        with pytest.raises(JobError, match=r"^weights are not .*; so ended an earlier call of the run in .* --restart"):
            train(*arguments, progress=lambda event: pytest.fail("it trained again"))
    (tmp_path / "run" / "diverged.json").unlink()
    assert len(train(*arguments).losses) == 3  # goes on after the first epoch, whose checkpoint is intact


def test_a_diverged_run_can_start_over(striped, tmp_path):
    arguments = (make(striped["train"]), striped["train"], striped["validation"])
    high = TrainConfig(epochs=2, batch_size=64, lr=1e30, precision="fp32", clip_grad=None)
    with pytest.raises(JobError, match=r"not finite|the loss is (nan|inf)"):
        train(*arguments, high, tmp_path / "run")
    record = train(*arguments, QUICK, tmp_path / "run", resume=False)
    assert np.isfinite(record.losses).all()
    assert not (tmp_path / "run" / "diverged.json").exists()


def test_predictions_that_are_not_finite_have_no_metrics(striped):
    model = create_model("test_resnet", striped["train"])
    with torch.no_grad():
        next(model.backbone.parameters()).fill_(float("nan"))
    with pytest.raises(JobError, match=r"^96 of 96 predictions are not finite numbers: the classifier diverged in"):
        evaluate(model, striped["validation"])


def test_a_converted_model_is_trained_and_loaded_in_its_type(striped, tmp_path):
    model = make(striped["train"])().double()
    record = train(model, striped["train"], striped["validation"], QUICK, tmp_path / "run")
    loaded = load_classifier(tmp_path / "run")
    assert {value.dtype for value in loaded.state_dict().values() if value.is_floating_point()} == {torch.float64}
    assert evaluate(loaded, striped["validation"]).accuracy == record.metrics.accuracy


def test_a_batch_of_one_sample_is_refused_where_batch_normalization_sees_one_value(striped, tmp_path):
    config = TrainConfig(epochs=1, batch_size=1, precision="fp32")
    model = make(striped["train"])()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        CallError,
        match=r"batch_size is 1, with which test_resnet cannot train on a grid of 16 pixels: its batch normalization "
        r"needs several values \(Expected more than 1 value per channel.*\); choose a batch size of at least 2",
    ):
        train(model, striped["train"], None, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_batch_of_one_sample_trains_a_model_without_batch_normalization(striped, tmp_path):
    config = TrainConfig(epochs=1, batch_size=1, precision="fp32")
    record = train(make(striped["train"], "test_vit"), striped["train"], None, config, tmp_path / "run")
    assert np.isfinite(record.losses).all()
