import threading
import weakref

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from walloc_cdl.data.gather import RowGatherer


@given(
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=12).filter(any),
    num_bytes=st.sampled_from([1, 7, 96, 5000]),
    batches=st.lists(st.lists(st.integers(0, 10**6), max_size=20), min_size=1, max_size=4),
)
def test_rows_are_those_of_the_concatenated_arrays(counts, num_bytes, batches):
    rng = np.random.default_rng(len(counts) * num_bytes)
    arrays = [rng.integers(0, 256, (count, num_bytes), dtype=np.uint8) for count in counts]
    whole, opened = np.concatenate(arrays), []

    def open_array(number):
        opened.append(number)
        return arrays[number]

    gatherer = RowGatherer(open_array, np.cumsum([0, *counts]))
    for batch in batches:
        rows = np.array(batch, np.int64) % len(whole)
        guard = np.full((len(rows) + 2, num_bytes), 7, np.uint8)
        gatherer.fill(rows, guard[1:-1])
        np.testing.assert_array_equal(guard[1:-1], whole[rows])
        assert (guard[[0, -1]] == 7).all()
    assert len(opened) == len(set(opened)), "an array is opened once"
    wanted = np.concatenate([np.array(batch, np.int64) % len(whole) for batch in batches])
    assert set(opened) == set((np.searchsorted(np.cumsum(counts), wanted, side="right")).tolist())


def test_arrays_live_as_long_as_the_gatherer():
    gatherer = RowGatherer(lambda number: np.full((2, 8), number + 1, np.uint8), np.array([0, 2, 4]))
    out = np.empty((1, 8), np.uint8)
    for row in (0, 3, 1):
        gatherer.fill(np.array([row]), out)
        junk = [np.zeros((2, 8), np.uint8) for _ in range(100)]  # would reuse the memory of the arrays
        gatherer.fill(np.array([row]), out)
        assert (out == row // 2 + 1).all(), junk


def test_opening_an_array_is_attempted_again_after_an_error():
    attempts = []

    def open_array(number):
        attempts.append(number)
        if len(attempts) == 1:
            raise OSError("away")
        return np.full((2, 3), 9, np.uint8)

    gatherer, out = RowGatherer(open_array, np.array([0, 2])), np.zeros((1, 3), np.uint8)
    for expected in (0, 9):
        try:
            gatherer.fill(np.array([1]), out)
        except OSError:
            assert expected == 0
        assert (out == expected).all()


def test_an_array_that_two_threads_open_is_kept():
    """The first thread is slow to take the address of its array; the other opens the same array and finishes first."""
    both, asked, may_answer = threading.Barrier(2, timeout=10), threading.Event(), threading.Event()
    opened = []

    class Slow(np.ndarray):
        @property
        def ctypes(self):
            if threading.current_thread() is first:
                asked.set()
                assert may_answer.wait(10)
            return super().ctypes

    def open_array(number):
        both.wait()
        assert threading.current_thread() is first or asked.wait(10)
        array = np.full((2, 8), 5, np.uint8).view(Slow)
        opened.append(weakref.ref(array))
        return array

    gatherer, out = RowGatherer(open_array, np.array([0, 2])), np.zeros((2, 8), np.uint8)
    first, second = (threading.Thread(target=gatherer.fill, args=(np.array([1]), out[i : i + 1])) for i in range(2))
    first.start()
    second.start()
    second.join()
    may_answer.set()
    first.join()
    assert (out == 5).all()
    (kept,) = [array for reference in opened if (array := reference()) is not None]
    assert int(gatherer._addresses[0]) == kept.__array_interface__["data"][0]
