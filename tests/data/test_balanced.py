"""Balanced sampling: each class equally often, from the seed and the epoch alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.drawn_rows import rank_slices
from tests.support.small_sets import write_small_set
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.data.sampler import BalancedBatches, GlobalBatches
from walloc_cdl.errors import CallError


def make(classes, batch_size=4, seed=0):
    classes = np.asarray(classes)
    return BalancedBatches(len(classes), batch_size, shuffle=True, drop_last=False, seed=seed, classes=classes)


@given(st.lists(st.integers(-1, 5), min_size=1, max_size=80), st.integers(0, 5), st.integers(0, 3))
def test_classes_and_their_samples_are_drawn_equally_often(classes, epoch, seed):
    classes = np.array(classes)
    if not (classes >= 0).any():
        return
    order = make(classes, seed=seed).order(epoch)
    assert len(order) == len(classes)
    times = np.bincount(order, minlength=len(classes))
    assert times[classes < 0].sum() == 0
    of_classes = [times[classes == each] for each in np.unique(classes[classes >= 0])]
    totals = [each.sum() for each in of_classes]
    assert max(totals) - min(totals) <= 1
    for each in of_classes:
        assert each.max() - each.min() <= 1


def test_the_order_follows_from_seed_and_epoch_and_is_pinned():
    classes = [0, 0, 0, 0, 0, 0, 1, 2]
    orders = [make(classes, seed=seed).order(epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert orders[0] == make(classes).order(0).tolist()
    assert make(classes, seed=1).order(2).tolist() == [7, 7, 6, 6, 2, 0, 6, 7]


def test_frequent_classes_have_other_samples_in_each_epoch():
    classes = np.repeat([0, 1], [90, 10])
    drawn = [set(make(classes).order(epoch)) for epoch in range(6)]
    assert all(len([row for row in epoch if row < 90]) == 50 for epoch in drawn)
    assert len(set.union(*drawn)) > 95


def test_the_order_is_shuffled():
    classes = np.repeat([0, 1], [900, 100])
    first = classes[make(classes).order(0)][:500]
    assert 200 < first.sum() < 300


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_global_batches(world_size):
    batches = make(np.arange(40) ** 2 % 7, 8)
    parts = [rank_slices(batches, 3, rank=rank, world_size=world_size) for rank in range(world_size)]
    for number, whole in enumerate(rank_slices(batches, 3)):
        np.testing.assert_array_equal(np.concatenate([part[number] for part in parts]), whole)


@pytest.mark.parametrize("residency", ["mmap", "ram", "device"])
def test_the_loader_draws_and_resumes(tmp_path, residency):
    content = write_small_set(tmp_path, {"train": [20, 13]})["train"]

    def loader(**options):
        return LatentLoader(open_latents(tmp_path), 4, seed=2, residency=residency, sampling="balanced", **options)

    whole = loader()
    batches = list(whole.with_words())
    labels = np.concatenate([labels.numpy() for _, labels, _ in batches])
    assert set(np.bincount(labels[labels >= 0], minlength=3)) <= {10, 11}
    rows = whole.batches.order(0)[: len(labels)]
    np.testing.assert_array_equal(labels, content.labels[rows])
    np.testing.assert_array_equal(np.concatenate([codes.numpy() for codes, _, _ in batches]), content.codes[rows])
    running = loader()
    iterator = iter(running)
    for _ in range(3):
        next(iterator)
    resumed = loader()
    resumed.load_state_dict(running.state_dict())
    for (codes, labels), (same, same_labels, _) in zip(resumed, batches[3:], strict=True):
        assert codes.equal(same)
        assert labels.equal(same_labels)
    plain = LatentLoader(open_latents(tmp_path), 4, seed=2)
    with pytest.raises(CallError, match="loader state has sampling 'balanced', but this loader has 'uniform'"):
        plain.load_state_dict(running.state_dict())


def test_what_cannot_be_balanced_is_refused(tmp_path):
    write_small_set(tmp_path, {"train": [8]}, labeled=False)
    dataset = open_latents(tmp_path)
    with pytest.raises(CallError, match=r"one class a sample, but .* has labels of kind 'none'; sample uniformly"):
        LatentLoader(dataset, 4, sampling="balanced")
    with pytest.raises(CallError, match=r"equal.*choose one of uniform, balanced"):
        LatentLoader(dataset, 4, sampling="equal")
    with pytest.raises(CallError, match="no sample has one; sample uniformly"):
        make([-1, -1])
    with pytest.raises(CallError, match="shuffle is off; turn it on"):
        BalancedBatches(2, 1, shuffle=False, drop_last=False, classes=np.array([0, 1]))


def test_uniform_sampling_is_as_before():
    assert GlobalBatches(8, 4, shuffle=True, drop_last=False, seed=1).order(2).tolist() == [5, 6, 3, 2, 1, 0, 4, 7]
