"""The training loop with arbitrary models and steps, and with a run's folder."""

import dataclasses

import numpy as np
import pytest
import torch

from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.training import RunFolder, RunRecord, describe_environment, finish_run, run_epochs, tensors_to_bytes
from walloc_cdl.training.checkpoint import checkpoint_to_bytes, load_checkpoint


@dataclasses.dataclass(frozen=True)
class Quality:
    decibels: float


@dataclasses.dataclass(frozen=True)
class Accuracy:
    accuracy: float


def weights_of(loop) -> bytes:
    return tensors_to_bytes(loop.weights())


def shifted(model, codes, targets, words):
    """A step that derives a shift of each sample from its word."""
    shift = (words.view(torch.int64) & 0xFF).float() / 255
    values = codes.float() / 255 + shift[:, None, None, None]
    return (model(values)[:, 0] - values.mean((1, 2, 3))).square().mean()


def test_a_step_gets_codes_targets_and_words_of_every_batch(make_loop):
    seen = []

    def step(model, codes, targets, words):
        seen.append((codes, targets, words))
        return model(codes.float()).square().mean()

    loop = make_loop(step)
    loop.run_epoch()
    loop.run_epoch()
    batches = loop.loader.batches
    for epoch in (0, 1):
        rows = batches.order(epoch)
        codes, targets = loop.loader.dataset.gather(rows[:24])
        expected = codes, targets, torch.from_numpy(batches.step_words(epoch)[:24])
        for found, whole in zip(zip(*seen[3 * epoch : 3 * epoch + 3], strict=True), expected, strict=True):
            assert torch.cat(found).equal(whole)
    assert loop.epoch == len(loop.history.losses) == 2


def test_weights_are_trained_and_averaged(make_loop):
    loop = make_loop(epochs=30, lr=0.03)
    while loop.epoch < 30:
        loop.run_epoch()
    assert loop.history.losses[-1] < loop.history.losses[0] / 5
    last = weights_of(loop)
    loop.use_result()
    assert weights_of(loop) == tensors_to_bytes(loop.average()) != last


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("update", [3, 5, 7])
def test_a_step_that_uses_words_resumes_bit_exactly(make_loop, tmp_path, update):
    """With three updates per epoch, interrupted at the end of the first, before it is saved, and within the others."""

    def interrupt(state):
        if state.step == update:
            raise Interrupted

    whole, first = make_loop(shifted), make_loop(shifted)
    run = RunFolder(tmp_path / "whole")
    run.claim({"of": "shift"}, resume=True)
    run_epochs(whole, run)
    run = RunFolder(tmp_path / "parts")
    run.claim({"of": "shift"}, resume=True)
    first.progress = interrupt
    with pytest.raises(Interrupted):
        run_epochs(first, run)
    torch.manual_seed(9)
    second = make_loop(shifted)
    run_epochs(second, run)
    assert second.history.losses == whole.history.losses
    assert weights_of(second) == weights_of(whole)


def test_a_record_has_the_metrics_of_the_trained_model(make_loop, tmp_path):
    loop, run = make_loop(), RunFolder(tmp_path / "run")
    run.claim({"of": "mean"}, resume=True)
    with pytest.raises(CallError, match="is not finished"):
        run.load_record(Quality)
    run_epochs(loop, run)
    environment = describe_environment(loop.device, "fp32")
    record = finish_run(loop, run, metrics=Quality(30.5), environment=environment)
    assert run.load_record(Quality) == record == RunRecord.from_json(record.to_json(), Quality, origin="record")
    assert record.config == {"of": "mean"}
    assert record.to_json()["metrics"] == {"decibels": 30.5}
    assert "timm" not in environment
    assert "timm" in describe_environment(loop.device, "fp32", ("timm",))
    with pytest.raises(
        DamagedError, match=r"record\.json, metrics: missing or unknown fields \['accuracy', 'decibels'\]"
    ):
        run.load_record(Accuracy)


def test_a_checkpoint_of_another_run_is_refused(make_loop, tmp_path):
    for name in ("one", "two"):
        run = RunFolder(tmp_path / name)
        run.claim({"of": name}, resume=True)
        run_epochs(make_loop(epochs=1), run)
    run.checkpoint_path.write_bytes(RunFolder(tmp_path / "one").checkpoint_path.read_bytes())
    with pytest.raises(DamagedError, match=r"checkpoint\.safetensors belongs to another run than config.json"):
        run_epochs(make_loop(epochs=1), run)


def test_every_flipped_bit_of_a_checkpoint_is_noticed(make_loop, tmp_path):
    run = RunFolder(tmp_path / "run")
    run.claim({"of": "mean"}, resume=True)
    run_epochs(make_loop(epochs=1), run)
    whole = run.checkpoint_path.read_bytes()
    tensors, values = load_checkpoint(run.checkpoint_path)
    assert values["epochs"]
    assert checkpoint_to_bytes(
        tensors, {name: value for name, value in values.items() if name != "content_sha256"}
    ) == (whole)
    bits = np.random.default_rng(0).integers(0, 8 * len(whole), 300)
    for bit in [*bits.tolist(), *range(0, 8 * 400, 7), 8 * len(whole) - 1]:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        run.checkpoint_path.write_bytes(flipped)
        with pytest.raises(
            DamagedError, match=r"checkpoint\.safetensors: .*; ?.*restore it from a copy or train again"
        ):
            load_checkpoint(run.checkpoint_path)
    with pytest.raises(DamagedError, match="SHA-256 of the content is"):
        run_epochs(make_loop(epochs=1), run)
    run.checkpoint_path.write_bytes(b"")
    with pytest.raises(DamagedError, match="not readable as safetensors with a digest"):
        run_epochs(make_loop(epochs=1), run)


def test_metrics_are_those_of_the_averaged_weights_after_each_epoch(make_loop):
    seen, plain = [], make_loop()

    def evaluate():
        assert tensors_to_bytes(loop.weights()) == tensors_to_bytes(loop.average())
        loop.model.eval()
        seen.append(loop.epoch)
        return {"accuracy": len(seen) / 4}

    loop = make_loop(evaluate=evaluate)
    for training in (plain, loop):
        while training.epoch < 3:
            training.run_epoch()
    assert seen == [0, 1, 2]
    assert loop.history.metrics == [{"accuracy": 0.25}, {"accuracy": 0.5}, {"accuracy": 0.75}]
    assert plain.history.metrics == [None] * 3
    assert weights_of(loop) == weights_of(plain)


def test_frozen_parameters_stay_and_train_after_they_are_released(make_loop, tmp_path):
    """Also over an interruption before and after the release."""

    def freeze(model):
        def before_epoch(epoch):
            calls.append(epoch)
            model[1].requires_grad_(epoch >= 2)

        return before_epoch

    def make():
        loop = make_loop(epochs=4)
        loop._before_epoch = freeze(loop.model)
        return loop

    def interrupt(update):
        def progress(state):
            if state.step == update:
                raise Interrupted

        return progress

    calls = []
    whole, run = make(), RunFolder(tmp_path / "whole")
    first = whole.model[1].weight.detach().clone()
    run.claim({"of": "freezing"}, resume=True)
    whole.run_epoch()
    whole.run_epoch()
    assert whole.model[1].weight.equal(first)
    run_epochs(whole, run)
    assert calls == [0, 1, 2, 3]
    assert not whole.model[1].weight.equal(first)
    run = RunFolder(tmp_path / "parts")
    run.claim({"of": "freezing"}, resume=True)
    for update in (5, 8, 11):
        part = make()
        part.progress = interrupt(update)
        with pytest.raises(Interrupted):
            run_epochs(part, run)
    resumed = make()
    run_epochs(resumed, run)
    assert weights_of(resumed) == weights_of(whole)
