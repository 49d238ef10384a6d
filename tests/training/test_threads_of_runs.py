"""A run has one number of torch's threads, from its beginning to its end, however often it is interrupted."""

import pytest
import torch

from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.threads import torch_threads
from walloc_cdl.training import RunFolder, loop, run_epochs, tensors_to_bytes
from walloc_cdl.training.checkpoint import checkpoint_to_bytes, load_checkpoint


class Interrupted(Exception):
    pass


@pytest.fixture
def run(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.claim({"of": "threads"}, resume=True)
    return folder


def interrupted(training, run: RunFolder, step: int = 5) -> None:
    """Train until an update of the second epoch, of three updates each."""

    def interrupt(state):
        if state.step == step:
            raise Interrupted

    training.progress = interrupt
    with pytest.raises(Interrupted):
        run_epochs(training, run)


@pytest.fixture
def counted(make_loop):
    """A function that makes loops, and the number of threads of every step."""
    seen = []

    def step(model, codes, targets, words):
        seen.append(torch.get_num_threads())
        return model(codes.float() / 255).square().mean()

    return (lambda: make_loop(step)), seen


def test_a_resumed_run_keeps_the_number_that_was_chosen_at_its_beginning(counted, run, monkeypatch):
    make, seen = counted
    monkeypatch.setattr(loop, "choose_threads", lambda work, num_calls: 2)
    interrupted(make(), run)
    monkeypatch.setattr(loop, "choose_threads", lambda work, num_calls: pytest.fail("chosen again"))
    second, states = make(), []
    second.progress = states.append
    with torch_threads(1):
        run_epochs(second, run)
        assert torch.get_num_threads() == 1
    assert set(seen) == {2}
    assert {state.threads for state in states} == {2}
    assert second.threads == 2


def test_another_number_is_refused_for_a_resumed_run(counted, run):
    make, _ = counted
    first = make()
    first.threads = 2
    interrupted(first, run)
    second = make()
    second.threads = 1
    with pytest.raises(CallError, match=r"was trained with 2 threads, but this call has 1, which gives other weights"):
        run_epochs(second, run)


@pytest.mark.parametrize("number", [0, "two", 1.5, True, 10**9])
def test_a_checkpoint_with_an_impossible_number_is_damaged(counted, run, number):
    make, _ = counted
    interrupted(make(), run)
    tensors, values = load_checkpoint(run.checkpoint_path)
    run.checkpoint_path.write_bytes(checkpoint_to_bytes(tensors, {**values, "threads": number}))
    with pytest.raises(DamagedError, match=r"threads: found .*, expected an integer from 1 to 4096"):
        run_epochs(make(), run)


def test_trials_leave_the_model_as_it_was(make_loop, tmp_path, monkeypatch):
    """With batch normalization, dropout and words, the weights equal those of a run without trials, bit by bit."""
    trials = []

    def shifted(model, codes, targets, words):
        shift = (words.view(torch.int64) & 0xFF).float() / 255
        return model(codes.float() / 255 + shift[:, None, None, None]).square().mean()

    def try_twice(work, num_calls):
        trials.append(num_calls)
        work()
        work()
        return 1

    monkeypatch.setattr(loop, "choose_threads", try_twice)
    results = []
    for name, number in (("given", 1), ("tried", None)):
        training, folder = make_loop(shifted), RunFolder(tmp_path / name)
        training.threads = number
        folder.claim({"of": name}, resume=True)
        run_epochs(training, folder)
        results.append(tensors_to_bytes(training.weights()))
    assert trials == [9]
    assert results[0] == results[1]
