import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.drawn_rows import rank_slices
from walloc_cdl.data import GlobalBatches
from walloc_cdl.errors import CallError

counts = st.integers(0, 200)
sizes = st.integers(1, 40)


def make(num_samples, batch_size, *, shuffle=True, drop_last=False, seed=0):
    return GlobalBatches(num_samples, batch_size, shuffle=shuffle, drop_last=drop_last, seed=seed)


@given(counts, sizes, st.booleans(), st.booleans(), st.integers(0, 5))
def test_every_sample_occurs_once_except_in_a_dropped_batch(num_samples, batch_size, shuffle, drop_last, epoch):
    if drop_last and num_samples < batch_size:
        return
    batches = make(num_samples, batch_size, shuffle=shuffle, drop_last=drop_last)
    slices = rank_slices(batches, epoch)
    drawn = np.concatenate([np.empty(0, np.int64), *slices])
    assert len(slices) == len(batches)
    assert len(np.unique(drawn)) == len(drawn)
    dropped = num_samples % batch_size if drop_last else 0
    assert len(drawn) == num_samples - dropped
    assert all(len(rows) == batch_size for rows in slices[: num_samples // batch_size])
    np.testing.assert_array_equal(drawn, batches.order(epoch)[: len(drawn)])


@given(counts, st.integers(8, 40), st.integers(1, 8), st.integers(0, 3))
def test_the_global_batches_are_the_same_for_any_number_of_ranks(num_samples, batch_size, world_size, epoch):
    batches = make(num_samples, batch_size)
    parts = [rank_slices(batches, epoch, rank=rank, world_size=world_size) for rank in range(world_size)]
    for number, whole in enumerate(rank_slices(batches, epoch)):
        slices = [part[number] for part in parts]
        if len(whole) < world_size:  # some are read twice, so that no rank is left without a sample
            assert [len(rows) for rows in slices] == [1] * world_size
            assert set(np.concatenate(slices)) == set(whole)
            continue
        np.testing.assert_array_equal(np.concatenate(slices), whole)
        assert max(map(len, slices)) - min(map(len, slices)) <= 1


@given(counts, sizes, st.data())
def test_a_later_start_skips_the_first_batches(num_samples, batch_size, data):
    batches = make(num_samples, batch_size)
    start = data.draw(st.integers(0, len(batches)))
    resumed = rank_slices(batches, 4, start=start)
    for rows, expected in zip(resumed, rank_slices(batches, 4)[start:], strict=True):
        np.testing.assert_array_equal(rows, expected)


def test_the_order_follows_from_seed_and_epoch():
    orders = [make(500, 10, seed=seed).order(epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert orders[0] == make(500, 10).order(0).tolist()
    assert make(500, 10, shuffle=False).order(3).tolist() == list(range(500))


def test_the_shuffle_is_pinned():
    """A run that is resumed with another version of NumPy must have the same batches."""
    assert make(8, 4, seed=1).order(2).tolist() == [5, 6, 3, 2, 1, 0, 4, 7]


def test_positions_are_uniform():
    positions = np.array([np.argsort(make(10, 5, seed=3).order(epoch)) for epoch in range(3000)])
    # Each sample's mean position is 4.5 with a standard error of 0.052.
    assert abs(positions.mean(0) - 4.5).max() < 0.21


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch size is 0; it must be at least 1"),
        ({"seed": -1}, "seed is -1; it must not be negative"),
        ({"batch_size": 11, "drop_last": True}, "batch size 11 is more than the 10 samples .* of at most 10"),
    ],
)
def test_wrong_settings(arguments, message):
    with pytest.raises(CallError, match=message):
        make(10, **({"batch_size": 4} | arguments))


@pytest.mark.parametrize("world_size", [2, 3, 4, 7])
@pytest.mark.parametrize("num_samples", [17, 18, 23])
def test_no_rank_is_left_without_a_sample(num_samples, world_size):
    """Of the last batch, too; where there are enough samples, the parts still are the batch."""
    batches = GlobalBatches(num_samples, 8, shuffle=True, drop_last=False, seed=1)
    for number in range(len(batches)):
        whole = batches.part(number)
        positions = range(whole.start, whole.stop)
        parts = [batches.part(number, rank=rank, world_size=world_size) for rank in range(world_size)]
        read = [position for part in parts for position in range(part.start, part.stop)]
        assert all(part.stop > part.start for part in parts)
        assert set(read) == set(positions)
        assert read == list(positions) or len(positions) < world_size == len(read)
