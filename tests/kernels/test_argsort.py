"""Words are ordered as NumPy orders them, those that are equal in the order in which they come."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walloc_cdl.kernels.cpu.argsort import argsort_words


def require_order(words):
    order = argsort_words(words)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(order, np.argsort(words, kind="stable"))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=40))
def test_any_few_words(words):
    require_order(np.array(words, np.uint64))


@pytest.mark.parametrize("count", [4095, 4096, 5000, 300_000])
def test_random_words(count):
    require_order(np.random.PCG64(count).random_raw(count))


@pytest.mark.parametrize("kept", [0, 2**64 - 2**56, 2**10 - 1, 2**40 - 2**24], ids=hex)
def test_words_that_share_most_bits(kept):
    """Upper bits, lower bits or all: their order is by the rest, or by the place."""
    require_order(np.random.PCG64(1).random_raw(6000) & np.uint64(kept))
