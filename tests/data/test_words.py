"""The random words of samples, from which a training step may derive random choices."""

import numpy as np
import pytest
import torch

from tests.support.any_samples import write_any_set
from tests.support.small_sets import make_spec
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.latents import LabelSpec, SampleLayout

LAYOUT = SampleLayout(make_spec(), (2, 2, 3), LabelSpec("class", 3), num_views=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    write_any_set(folder, LAYOUT, {"train": [9, 4, 0, 30]})
    return folder


def open_loader(folder, batch_size=8, **options):
    return LatentLoader(open_latents(folder), batch_size, **{"drop_last": False, "seed": 3, **options})


def collect(loader):
    return [tuple(part.numpy() for part in batch) for batch in loader.with_words()]


def words_of(loader):
    return np.concatenate([words for _, _, words in collect(loader)])


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("residency", ["mmap", "ram", "device"])
def test_batches_are_the_same_with_and_without_words(folder, residency, prefetch):
    options = {"residency": residency, "prefetch": prefetch, "views": "random"}
    plain = list(open_loader(folder, **options))
    batches = list(open_loader(folder, **options).with_words())
    for (codes, labels), (same_codes, same_labels, words) in zip(plain, batches, strict=True):
        assert codes.equal(same_codes)
        assert labels.equal(same_labels)
        assert words.dtype == torch.uint64
        assert words.shape == labels.shape


def test_words_follow_from_seed_epoch_and_position(folder):
    loader = open_loader(folder)
    words = words_of(loader)
    assert len(np.unique(words)) == 43
    np.testing.assert_array_equal(words, words_of(open_loader(folder, batch_size=5)))
    np.testing.assert_array_equal(words, words_of(open_loader(folder, views="random")))
    np.testing.assert_array_equal(words, words_of(open_loader(folder, shuffle=False)))
    loader.set_epoch(1)
    for others in (words_of(loader), words_of(open_loader(folder, seed=4)), loader.batches.words(0)):
        assert not np.isin(others, words).any()  # nor are they the words for views and crops


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_words(folder, world_size):
    whole = collect(open_loader(folder))
    ranks = [collect(open_loader(folder, rank=rank, world_size=world_size)) for rank in range(world_size)]
    for batch, parts in zip(whole, zip(*ranks, strict=True), strict=True):
        for mine, joined in zip(batch, map(np.concatenate, zip(*parts, strict=True)), strict=True):
            np.testing.assert_array_equal(mine, joined)


@pytest.mark.parametrize("done", range(7))
def test_words_are_the_same_after_resumption(folder, done):
    whole = collect(open_loader(folder))
    running = open_loader(folder)
    iterator = running.with_words()
    for _ in range(done):
        next(iterator)
    iterator.close()
    for world_size in (1, 2):  # also for another number of ranks
        parts = []
        for rank in range(world_size):
            resumed = open_loader(folder, rank=rank, world_size=world_size)
            resumed.load_state_dict(running.state_dict())
            parts.append(collect(resumed))
        joined = [tuple(map(np.concatenate, zip(*batch, strict=True))) for batch in zip(*parts, strict=True)]
        assert len(joined) == 6 - done
        for found, expected in zip(joined, whole[done:], strict=True):
            for mine, theirs in zip(found, expected, strict=True):
                np.testing.assert_array_equal(mine, theirs)
    assert len(collect(running)) == 6  # a second pass starts from the beginning


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("residency", ["mmap", "device"])
def test_words_are_on_the_device_of_the_codes(folder, residency):
    batches = list(open_loader(folder, device="cuda", residency=residency).with_words())
    assert all(part.is_cuda for batch in batches for part in batch)
    np.testing.assert_array_equal(torch.cat([words.cpu() for _, _, words in batches]), words_of(open_loader(folder)))
