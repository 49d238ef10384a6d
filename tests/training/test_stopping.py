"""Early stopping, the best epoch, the interval of evaluations, and checkpoints within an epoch."""

import math

import pytest
import torch

from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.training import (
    DivergedError,
    EpochFigures,
    History,
    RunFolder,
    SaveInterval,
    describe_environment,
    finish_run,
    run_epochs,
    tensors_to_bytes,
)
from walloc_cdl.training.checkpoint import checkpoint_to_bytes, load_checkpoint


class Interrupted(Exception):
    pass


def folder(path) -> RunFolder:
    run = RunFolder(path)
    run.claim({"of": "stopping"}, resume=True)
    return run


def scores(*values: float):
    """An evaluation that returns these accuracies, one a call."""
    rest = iter(values)
    return lambda: {"accuracy": next(rest), "loss": 0.5}


def history(*values: float | None, metric: str = "accuracy") -> History:
    return History([EpochFigures(1.0, 0.1, 1.0, None if value is None else {metric: value}) for value in values])


def test_the_best_epoch_is_the_first_of_equals():
    assert history(0.1, 0.3, 0.3, None, 0.2).best_epoch("accuracy") == 1
    assert history(0.4, 0.3, 0.3, metric="loss").best_epoch("loss") == 1
    assert history(None, None).best_epoch("accuracy") is None
    with pytest.raises(CallError, match="eval_metric is 'f1'; choose one of accuracy"):
        history(0.1).best_epoch("f1")


def test_training_stalls_after_evaluations_without_a_better_metric():
    assert not history(0.1, 0.3, 0.3).has_stalled("accuracy", 2)
    assert history(0.1, 0.3, 0.3, None, 0.2).has_stalled("accuracy", 2)
    assert not history(None).has_stalled("accuracy", 1)


def test_a_run_stops_early_and_keeps_the_best_epoch(make_loop, tmp_path):
    loop = make_loop(epochs=9, patience=2, keep="best", evaluate=scores(0.1, 0.4, 0.3, 0.2))
    after_second, run = None, folder(tmp_path / "run")

    def note(training):
        nonlocal after_second
        if training.epoch == 2:
            after_second = tensors_to_bytes(training.average())

    run_epochs(loop, run, after_epoch=note)
    assert loop.epoch == 4
    assert tensors_to_bytes(loop.weights()) == after_second
    record = finish_run(loop, run, metrics=None, environment=describe_environment(loop.device, "fp32"))
    assert (record.epoch, len(record.history)) == (2, 4)


def test_the_best_epoch_survives_an_interruption(make_loop, tmp_path):
    settings = {"epochs": 4, "keep": "best"}
    whole, part = (make_loop(**settings, evaluate=scores(0.1, 0.4, 0.3, 0.2)) for _ in range(2))
    run_epochs(whole, folder(tmp_path / "whole"))

    def interrupt(state):
        if state.step == 8:
            raise Interrupted

    part.progress = interrupt
    with pytest.raises(Interrupted):
        run_epochs(part, folder(tmp_path / "parts"))
    resumed = make_loop(**settings, evaluate=scores(0.3, 0.2))
    run_epochs(resumed, folder(tmp_path / "parts"))
    assert tensors_to_bytes(resumed.weights()) == tensors_to_bytes(whole.weights())
    assert resumed.result_epoch == 2


def test_another_metric_decides_if_it_is_named(make_loop, tmp_path):
    loop = make_loop(epochs=2, keep="best", eval_metric="loss", evaluate=scores(0.1, 0.4))
    run_epochs(loop, folder(tmp_path / "run"))
    assert loop.result_epoch == 1


@pytest.mark.parametrize(("interval", "expected"), [(0, [False] * 4), (2, [False, True, False, True])])
def test_epochs_are_evaluated_as_often_as_asked(make_loop, interval, expected):
    loop = make_loop(epochs=4, val_interval=interval, evaluate=scores(0.1, 0.2))
    while not loop.is_done:
        loop.run_epoch()
    assert [metrics is not None for metrics in loop.history.metrics] == expected


@pytest.mark.parametrize("settings", [{}, {"grad_accum_steps": 2}], ids=["", "accumulated"])
@pytest.mark.parametrize("update", [2, 5, 7])
def test_a_run_resumes_within_an_epoch(make_loop, tmp_path, update, settings):
    """With 7 batches an epoch; the last group of two has one batch."""
    settings = {"batch_size": 4, "epochs": 3, **settings}
    whole, part, resumed = (make_loop(**settings) for _ in range(3))
    run_epochs(whole, folder(tmp_path / "whole"))
    seen = []

    def interrupt(state):
        if state.step == update:
            raise Interrupted

    part.progress = interrupt
    with pytest.raises(Interrupted):
        run_epochs(part, folder(tmp_path / "parts"), save=SaveInterval(None, updates=1))
    torch.manual_seed(update)
    resumed.progress = seen.append
    run_epochs(resumed, folder(tmp_path / "parts"))
    assert seen[0].step == update
    assert resumed.history.losses == whole.history.losses
    assert tensors_to_bytes(resumed.weights()) == tensors_to_bytes(whole.weights())


def test_checkpoints_are_written_as_often_as_asked(make_loop, tmp_path):
    written = []

    def note(state):
        path = tmp_path / "run/checkpoint.safetensors"
        written.append(load_checkpoint(path)[1]["part"]["updates"] if path.exists() else None)

    loop = make_loop(batch_size=4, epochs=1)
    loop.progress = note
    run_epochs(loop, folder(tmp_path / "run"), save=SaveInterval(minutes=None, updates=3))
    assert written == [None, None, None, 3, 3, 3, 6]
    is_due = SaveInterval(minutes=1e-9).timer()
    assert is_due()
    for wrong in ({"minutes": 0}, {"updates": 0}):
        with pytest.raises(CallError, match=r"between checkpoints are 0; they must be above 0, or None for never"):
            SaveInterval(**wrong)


def test_a_diverged_model_is_not_saved_within_an_epoch(make_loop, tmp_path):
    loop, run = make_loop(batch_size=4), folder(tmp_path / "run")

    def spoil(state):
        if state.step == 2:
            with torch.no_grad():
                loop.model[1].weight.fill_(math.nan)

    loop.progress = spoil
    with pytest.raises(DivergedError, match="weights are not finite in epoch 1; choose an lr below"):
        run_epochs(loop, run, save=SaveInterval(None, updates=1))
    assert run.diverged_path.exists()
    assert load_checkpoint(run.checkpoint_path)[1]["part"]["updates"] == 1


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"updates": 3, "batches": 2, "elapsed_s": 1.0}, r"part: found .*, expected 1 batches an update"),
        ({"updates": 7, "batches": 7, "elapsed_s": 1.0}, r"part: found .*, expected 1 batches an update"),
        ({"updates": -1, "batches": 2, "elapsed_s": 1.0}, "updates: found -1, expected an integer of at least 0"),
        (None, "part: found None, expected an object"),
    ],
)
def test_an_impossible_position_is_damaged(make_loop, tmp_path, part, message):
    loop, run = make_loop(batch_size=4, epochs=2), folder(tmp_path / "run")

    def interrupt(state):
        if state.step == 9:
            raise Interrupted

    loop.progress = interrupt
    with pytest.raises(Interrupted):
        run_epochs(loop, run)
    tensors, values = load_checkpoint(run.checkpoint_path)
    run.checkpoint_path.write_bytes(checkpoint_to_bytes(tensors, {**values, "part": part}))
    with pytest.raises(DamagedError, match=message):
        run_epochs(make_loop(batch_size=4, epochs=2), run)
