import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from walloc_cdl.codec.fit.circular_correlation import circular_correlation, cross_spectra, spectra


def direct_sum(left, right, displacement):
    """Return Σ left[k](p + d) · right[j](p) of arrays (B, K, h, w) and (B, J, h, w), by a circular shift."""
    shifted = np.roll(left, [-step for step in displacement], axis=(2, 3))
    return np.einsum("bkyx,bjyx->kj", shifted, right)


@given(
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    counts=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    reach=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_every_displacement_is_the_direct_sum(height, width, counts, reach, seed):
    rng = np.random.default_rng(seed)
    lefts = [rng.normal(size=(count, 2, height, width)) for count in counts]
    rights = [rng.normal(size=(count, 3, height, width)) for count in counts]
    pairs = zip(*([spectra(torch.from_numpy(batch)) for batch in side] for side in (lefts, rights)), strict=True)
    products = circular_correlation(cross_spectra(pairs), (height, width), reach).numpy()
    assert products.shape == (2 * reach + 1, 2 * reach + 1, 2, 3)
    for down in range(-reach, reach + 1):
        for across in range(-reach, reach + 1):
            expected = direct_sum(np.concatenate(lefts), np.concatenate(rights), (down, across))
            np.testing.assert_allclose(products[down + reach, across + reach], expected, atol=1e-10)


def test_the_sum_is_not_scaled():
    image = torch.ones(1, 1, 4, 6)
    (product,) = circular_correlation(cross_spectra([(spectra(image), spectra(2 * image))]), (4, 6), 0).flatten()
    assert float(product) == pytest.approx(48)
