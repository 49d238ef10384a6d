"""Words are ordered as by NumPy's stable argsort."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walloc_cdl.kernels.cpu.argsort import argsort_words


def assert_order(words):
    order = argsort_words(words)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(order, np.argsort(words, kind="stable"))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=40))
def test_small_lists_of_words(words):
    assert_order(np.array(words, np.uint64))


@pytest.mark.parametrize("count", [4095, 4096, 5000, 300_000])
def test_random_words(count):
    assert_order(np.random.PCG64(count).random_raw(count))


@pytest.mark.parametrize("mask", [0, 2**64 - 2**56, 2**10 - 1, 2**40 - 2**24], ids=hex)
def test_words_that_share_most_bits(mask):
    """Equal upper bits, lower bits or all bits: the other bits, or the indices, determine the order."""
    assert_order(np.random.PCG64(1).random_raw(6000) & np.uint64(mask))
