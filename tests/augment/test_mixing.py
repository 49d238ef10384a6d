"""Mixup and CutMix: timm's law and timm's arithmetic, on neighbors, the same for any number of ranks."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest
from timm.data.mixup import Mixup

from walloc_cdl.augment.draws import Draws
from walloc_cdl.augment.mixing import MixConfig, NeighborMixing, _beta, neighbors, require_whole_pairs
from walloc_cdl.errors import CallError

SIZE = (20, 28)


def words_of(count, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(-(2**63), 2**63, count)).view(torch.uint64)


def pixels_of(count, seed=0):
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("config", [MixConfig(0.2), MixConfig(0, 1.0), MixConfig(0.8, 1.0, 0.7, 0.4)])
def test_pairs_are_mixed_as_timm_mixes_them(config, monkeypatch):
    """Timm draws our numbers, and mixes our pixels in an order in which its pairs are our neighbors."""
    count, mixing, words, pixels = 32, NeighborMixing(config), words_of(32), pixels_of(32)
    draws = Draws(words[::2].view(torch.int64)).named("mixing")
    uniform = draws.uniform("share")
    shares = {
        alpha: _beta(uniform, alpha).numpy().astype(np.float64) for alpha in (config.mixup, config.cutmix) if alpha
    }
    chances = [draws.uniform("mix").numpy()]
    if config.mixup and config.cutmix:
        chances.insert(0, draws.uniform("cutmix").numpy())
    given = iter(chances)
    is_cut = draws.happens("cutmix", config.switch_prob) if len(chances) == 2 else torch.full((16,), config.cutmix > 0)
    boxed = iter(np.flatnonzero((is_cut & draws.happens("mix", config.prob)).numpy()))
    places = itertools.chain.from_iterable((("row", pair), ("column", pair)) for pair in boxed)

    def randint(low, high, size=None):
        name, pair = next(places)
        return int(draws.uniform(name)[pair] * high)

    monkeypatch.setattr(np.random, "rand", lambda *_: next(given))
    monkeypatch.setattr(np.random, "beta", lambda alpha, _, size: shares[alpha])
    monkeypatch.setattr(np.random, "randint", randint)
    order = torch.cat([torch.arange(0, count, 2), torch.arange(1, count, 2).flip(0)])
    theirs = Mixup(config.mixup, config.cutmix, None, config.prob, config.switch_prob, "pair", num_classes=count)
    expected, targets = theirs(pixels[order].clone(), order.clone())
    mixed = mixing(pixels, words)
    torch.testing.assert_close(mixed[order], expected)
    theirs.smoothing = 0
    own = mixing.shares(words, SIZE)
    found = targets[torch.arange(count), order]
    smooth = 0.1 / count
    torch.testing.assert_close(own[order], (found - smooth) / 0.9, atol=1e-5, rtol=1e-4)
    assert next(places, None) is None  # as many boxes as there should be


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.8, 1.0, 8.0])
def test_shares_have_the_law_of_beta(alpha):
    shares = NeighborMixing(MixConfig(alpha)).shares(words_of(40_000), SIZE)
    assert shares[::2].equal(shares[1::2])
    # In float32, a part of the shares near 1 is 1, as timm's are.
    law, drawn = beta(alpha, alpha), shares[::2].numpy()
    below = drawn[drawn < 0.9]
    assert len(below) / len(drawn) == pytest.approx(law.cdf(0.9), abs=0.015)
    assert kstest(below, lambda share: law.cdf(share) / law.cdf(0.9)).pvalue > 0.01


def test_the_chances_are_those_of_the_settings():
    mixing = NeighborMixing(MixConfig(1.0, 1.0, prob=0.6, switch_prob=0.3))
    words, pixels = words_of(8000), torch.zeros(8000, 1, 8, 8)
    pixels[1::2] = 1
    mixed = mixing(pixels, words)[::2, 0]
    is_mixed = (mixed > 0).any(2).any(1)
    is_cut = is_mixed & ((mixed == 0) | (mixed == 1)).all(2).all(1)
    assert is_mixed.float().mean() == pytest.approx(0.6, abs=0.03)  # some boxes are empty
    assert (is_cut.sum() / is_mixed.sum()) == pytest.approx(0.3, abs=0.03)
    torch.testing.assert_close(1 - mixed.mean((1, 2)), mixing.shares(words, (8, 8))[::2])


def test_parts_of_whole_pairs_are_mixed_as_the_whole_batch():
    mixing, words, pixels = NeighborMixing(MixConfig(0.8, 1.0)), words_of(12), pixels_of(12)
    whole = mixing(pixels, words)
    for sizes in ([6, 6], [4, 4, 4], [2, 10]):
        parts = [mixing(*part) for part in zip(pixels.split(sizes), words.split(sizes), strict=True)]
        assert torch.cat(parts).equal(whole)
    assert not mixing(pixels, words_of(12, seed=1)).equal(whole)


def test_a_last_sample_without_a_neighbor_stays_as_it_is():
    mixing, words, pixels = NeighborMixing(MixConfig(0.8, 1.0)), words_of(5), pixels_of(5)
    assert mixing(pixels, words)[4].equal(pixels[4])
    assert mixing.shares(words, SIZE)[4] == 1
    assert neighbors(torch.arange(5)).tolist() == [1, 0, 3, 2, 4]
    assert mixing(pixels[:1], words[:1]).equal(pixels[:1])


def test_inactive_mixing_changes_nothing():
    mixing, words, pixels = NeighborMixing(MixConfig(1.0)), words_of(4), pixels_of(4)
    mixing.active = False
    assert mixing(pixels, words) is pixels
    assert mixing.shares(words, SIZE) is None


def test_ranks_whose_part_begins_within_a_pair_are_refused():
    for batch_size, world_size in ((8, 2), (8, 4), (7, 1), (2, 1), (12, 3)):
        require_whole_pairs(batch_size, world_size)
    message = r"batches of 10 over 4 processes the part of process 2 begins at sample 5, .* multiple of 8, such as 8"
    with pytest.raises(CallError, match=message):
        require_whole_pairs(10, 4)
    with pytest.raises(CallError, match=r"multiple of 4, such as 4"):
        require_whole_pairs(2, 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_mixes_as_a_cpu_does():
    mixing, words, pixels = NeighborMixing(MixConfig(0.8, 1.0)), words_of(64), pixels_of(64)
    found = mixing(pixels.cuda(), words.cuda())
    torch.testing.assert_close(found.cpu(), mixing(pixels, words))
    torch.testing.assert_close(mixing.shares(words.cuda(), SIZE).cpu(), mixing.shares(words, SIZE))
