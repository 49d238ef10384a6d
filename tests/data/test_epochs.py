"""Epochs advance without `set_epoch`, which many training loops never call."""

import numpy as np
import pytest

from tests.support.drawn_rows import rank_slices
from tests.support.small_sets import write_small_set
from walloc_cdl.data import GlobalBatches, LatentLoader, open_latents
from walloc_cdl.data.epoch_sampler import EpochSampler
from walloc_cdl.errors import DamagedError

NUM_SAMPLES, NUM_BATCHES = 29, 7


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("epochs")
    codes = write_small_set(folder, {"train": [9, 4, 0, 16]})["train"].codes
    assert len(np.unique(codes, axis=0)) == NUM_SAMPLES  # so that codes tell the row
    return folder, {sample.tobytes(): row for row, sample in enumerate(codes)}


@pytest.fixture
def open_loader(stored):
    return lambda **options: LatentLoader(open_latents(stored[0]), **{"batch_size": 4, "seed": 2, **options})


@pytest.fixture
def rows_of(stored):
    """A function that returns the rows of the batches of one iteration, as a list for each batch."""
    return lambda batches: [[stored[1][sample.numpy().tobytes()] for sample in batch[0]] for batch in batches]


def epoch_rows(loader, epoch, **position):
    return [rows.tolist() for rows in rank_slices(loader.batches, epoch, **position)]


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("residency", ["mmap", "ram", "device"])
def test_each_iteration_is_the_next_epoch(open_loader, rows_of, residency, prefetch):
    loader = open_loader(residency=residency, prefetch=prefetch)
    for epoch in range(3):
        assert rows_of(loader) == epoch_rows(loader, epoch)
        assert loader.epoch == epoch


def test_dropped_samples_are_seen_in_other_epochs(open_loader, rows_of):
    loader = open_loader(batch_size=16)
    assert len(loader) == 1
    seen = {row for _ in range(12) for batch in rows_of(loader) for row in batch}
    assert len(seen) == NUM_SAMPLES


def test_words_and_plain_iterations_advance_alike(open_loader, rows_of):
    loader = open_loader()
    words = []
    for epoch in range(4):
        if epoch == 2:
            assert rows_of(loader) == epoch_rows(loader, epoch)
            continue
        batches = list(loader.with_words())
        assert rows_of(batches) == epoch_rows(loader, epoch)
        words.append(np.concatenate([part.numpy() for _, _, part in batches]))
        np.testing.assert_array_equal(words[-1], loader.batches.step_words(epoch)[: len(words[-1])])
    assert len(np.unique(words)) == 3 * 28


def test_an_iteration_that_was_broken_off_counts(open_loader, rows_of):
    loader = open_loader()
    next(iter(loader))
    assert rows_of(loader) == epoch_rows(loader, 1)
    for _ in loader.with_words():
        break
    assert rows_of(loader) == epoch_rows(loader, 3)
    iterator = iter(loader)
    for _ in range(NUM_BATCHES):  # a consumer that counts does not see the end
        next(iterator)
    assert rows_of(loader) == epoch_rows(loader, 5)


def test_an_iteration_without_a_batch_does_not_count(open_loader, rows_of):
    loader = open_loader()
    iter(loader)
    loader.with_words().close()
    late = iter(loader)
    loader.set_epoch(4)  # trainers may call it between `iter` and the first batch
    assert rows_of(late) == epoch_rows(loader, 4)


def test_set_epoch_takes_precedence(open_loader, rows_of):
    loader = open_loader()
    for epoch in (0, 0, 3, 3, 1):
        loader.set_epoch(epoch)
        loader.set_epoch(epoch)
        assert rows_of(loader) == epoch_rows(loader, epoch)
    assert rows_of(loader) == epoch_rows(loader, 2)
    next(iter(loader))
    loader.set_epoch(3)
    assert rows_of(loader) == epoch_rows(loader, 3)


def test_an_abandoned_iteration_does_not_change_the_next(open_loader, rows_of):
    loader = open_loader()
    abandoned = iter(loader)
    next(abandoned)
    loader.set_epoch(5)
    next(abandoned)
    assert (loader.state_dict()["epoch"], loader.state_dict()["batches"]) == (5, 0)
    current = iter(loader)
    next(current)
    rows_of(abandoned)
    assert loader.state_dict()["batches"] == 1
    assert rows_of(current) == epoch_rows(loader, 5)[1:]


@pytest.mark.parametrize("by_words", [False, True])
def test_a_plain_loop_resumes_at_every_step(open_loader, rows_of, by_words):
    def iterate(loader):
        return loader.with_words() if by_words else loader

    running, seen, states = open_loader(), [], []
    for epoch in range(3):
        for batch in iterate(running):
            seen += rows_of([batch])
            states.append((len(seen), epoch, running.state_dict()))  # the loop over this epoch is still to be ended
        states.append((len(seen), epoch + 1, running.state_dict()))
    for done, epoch, state in states:
        resumed = open_loader()
        resumed.load_state_dict(state)
        assert resumed.state_dict() == state
        assert seen[:done] + [rows for _ in range(epoch, 3) for rows in rows_of(iterate(resumed))] == seen


def test_a_finished_epoch_is_empty_if_it_is_chosen_again_after_resumption(open_loader, rows_of):
    loader = open_loader()
    assert len(rows_of(loader)) == NUM_BATCHES
    state = loader.state_dict()
    assert (state["epoch"], state["batches"], state["finished"]) == (0, NUM_BATCHES, True)
    for chosen, expected in ((0, []), (1, epoch_rows(loader, 1)), (2, epoch_rows(loader, 2))):
        resumed = open_loader()
        resumed.load_state_dict(state)
        resumed.set_epoch(chosen)
        assert rows_of(resumed) == expected
        assert rows_of(resumed) == epoch_rows(loader, chosen + 1)


def test_ranks_advance_together(open_loader, rows_of):
    ranks = [open_loader(rank=rank, world_size=3) for rank in range(3)]
    for loader in ranks:
        next(iter(loader))
    for epoch in (1, 2):
        for rank, loader in enumerate(ranks):
            assert rows_of(loader) == epoch_rows(loader, epoch, rank=rank, world_size=3)
    state = {**ranks[0].state_dict(), "batches": 2, "finished": False}
    for rank in range(2):  # also with another number of ranks
        resumed = open_loader(rank=rank, world_size=2)
        resumed.load_state_dict(state)
        assert rows_of(resumed) == epoch_rows(resumed, 2, rank=rank, world_size=2)[2:]
        assert rows_of(resumed) == epoch_rows(resumed, 3, rank=rank, world_size=2)


def test_trainers_choose_the_epoch_by_the_sampler(open_loader, rows_of):
    loader = open_loader()
    for epoch in (2, 2, 0):
        if callable(getattr(getattr(loader, "sampler", None), "set_epoch", None)):  # as Lightning does
            loader.sampler.set_epoch(epoch)
        assert loader.epoch == epoch
        assert rows_of(loader) == epoch_rows(loader, epoch)
    assert loader.sampler is loader.sampler
    loader.load_state_dict({**loader.state_dict(), "batches": 5})
    loader.sampler.set_epoch(0)
    assert rows_of(loader) == epoch_rows(loader, 0)[5:]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("num_samples", [0, 5, 29, 32])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_the_samplers_length_is_that_of_the_ranks_samples(num_samples, world_size, drop_last):
    batches = GlobalBatches(num_samples, 5, shuffle=True, drop_last=drop_last)
    for rank in range(world_size):
        rows = rank_slices(batches, 0, rank=rank, world_size=world_size)
        assert len(EpochSampler(batches, rank=rank, world_size=world_size)) == sum(map(len, rows))


def test_an_empty_split_advances(tmp_path):
    write_small_set(tmp_path, {"train": [4], "test": [0]})
    loader = LatentLoader(open_latents(tmp_path, "test"), 4)
    assert [list(loader), list(loader)] == [[], []]
    assert loader.epoch == 1


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_failed_first_batch_can_be_tried_again(tmp_path, prefetch, monkeypatch):
    samples = write_small_set(tmp_path, {"train": [6]})["train"]
    loader = LatentLoader(open_latents(tmp_path), 2, prefetch=prefetch)
    loader.load_state_dict({**loader.state_dict(), "batches": 1})
    with monkeypatch.context() as patch:
        patch.setattr(LatentLoader, "_open_reader", lambda loader: FailingReader())
        with pytest.raises(DamagedError):
            next(iter(loader))
    loader._host_reader = None
    rows = rank_slices(loader.batches, 0, start=1)
    for (codes, _), expected in zip(loader, rows, strict=True):
        np.testing.assert_array_equal(codes, samples.codes[expected])


class FailingReader:
    def read(self, selection):
        raise DamagedError("the shard is damaged")
