"""Several processes, and several batches an update, have the gradient of the whole batch; here they are threads."""

import threading

import pytest
import torch
from torch import nn

from tests.support.small_sets import write_small_set
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.training import LoopConfig, Processes, TrainingLoop

CPU = torch.device("cpu")


class Together:
    """What threads exchange in place of processes."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count, timeout=60)
        self.values: list = [None] * count

    def exchange(self, rank: int, value):
        self.values[rank] = value
        self.barrier.wait()
        values = list(self.values)
        self.barrier.wait()
        return values


class ThreadProcesses(Processes):
    """Threads that exchange tensors as processes do."""

    def with_others(self, together: Together):
        object.__setattr__(self, "together", together)
        return self

    def sum(self, tensor):
        total = torch.zeros_like(tensor)
        for each in self.together.exchange(self.rank, tensor.clone()):
            total += each
        return total

    def shared(self, value):
        return self.together.exchange(self.rank, value)[0]

    def spread(self, tensors):
        for tensor in tensors:
            tensor.copy_(self.shared(tensor.clone()))


class Known:
    """A step that skips samples by their words, so that processes have different numbers of terms."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def terms(self, codes, targets, words):
        values = codes.float() / 255
        kept = (words.view(torch.int64) % 3 != 0).float()
        errors = (self.model(values)[:, 0] - values.mean((1, 2, 3))).square()
        return (errors * kept).sum(), kept.sum()

    def __call__(self, codes, targets, words):
        total, count = self.terms(codes, targets, words)
        return total / count.clamp_min(1)


class Plain(Known):
    """A step without `terms`, whose loss is the mean over all samples."""

    terms = None

    def __call__(self, codes, targets, words):
        values = codes.float() / 255
        return (self.model(values)[:, 0] - values.mean((1, 2, 3))).square().mean()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    write_small_set(path, {"train": [9, 4, 16]})
    return path


def seeded_model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 1), nn.Linear(1, 1))
    model[4].requires_grad_(False)  # is not used, and stays
    return model


def build(folder, step, processes=None, *, model=None, **settings) -> TrainingLoop:
    config = LoopConfig(**{"epochs": 3, "batch_size": 7, "lr": 0.01, "precision": "fp32", **settings})
    model = model or seeded_model(0)
    ranks = {} if processes is None else {"rank": processes.rank, "world_size": processes.world_size}
    loader = LatentLoader(open_latents(folder), config.batch_size, seed=4, prefetch=0, **ranks)
    more = {} if processes is None else {"processes": processes}
    return TrainingLoop(model, step(model[:4]), loader, config, device=CPU, threads=1, **more)


def trained(loop: TrainingLoop) -> dict[str, torch.Tensor]:
    while not loop.is_done:
        loop.run_epoch()
    return {**loop.weights(), **{f"average {name}": value for name, value in loop.average().items()}}


@pytest.mark.parametrize("step", [Known, Plain])
@pytest.mark.parametrize("settings", [{}, {"grad_accum_steps": 2}], ids=["", "accumulated"])
def test_processes_train_as_one_does(folder, step, settings):
    """With slices of 3, 2 and 2 samples; all have the same bits, also if their models began with other weights."""
    whole = build(folder, step, **settings)
    expected = trained(whole)
    together, lock, results = Together(3), threading.Lock(), [None] * 3

    def train(rank: int) -> None:
        processes = ThreadProcesses(rank, 3, CPU).with_others(together)
        with lock:  # torch's generator is shared
            model = seeded_model(rank)
        loop = build(folder, step, processes, model=model, **settings)
        results[rank] = (loop, trained(loop))

    threads = [threading.Thread(target=train, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for loop, found in results:
        assert found.keys() == expected.keys()
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
            assert value.equal(results[0][1][name])
        assert loop.history.losses == pytest.approx(whole.history.losses, rel=1e-5)


def test_accumulated_batches_have_the_gradient_of_a_large_one(folder):
    """Batches of 7 by twos against batches of 14: the first update, after which the order of samples is the same."""
    small, large = build(folder, Known, grad_accum_steps=2), build(folder, Known, batch_size=14)
    losses = []
    for loop in (small, large):
        with pytest.raises(ZeroDivisionError):
            loop.run_epoch(lambda loop=loop: losses.append(float(loop._part.loss)) or 1 / 0)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, value in small.weights().items():
        torch.testing.assert_close(value, large.weights()[name], rtol=1e-4, atol=1e-6)
    assert small.updates_per_epoch == 2


def test_a_batch_that_is_smaller_than_the_number_of_processes_is_refused():
    processes = Processes(0, 4, CPU)
    processes.require_batch(4)
    with pytest.raises(
        CallError, match=r"batches of 3 samples, but 4 processes share each of them; choose a batch size of at least 4"
    ):
        processes.require_batch(3)


def test_models_that_are_divided_among_devices_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(CallError, match="launched with FSDP, but every process has a whole model here; launch without"):
        Processes.open("cpu")
