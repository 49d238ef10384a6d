import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walloc_cdl.data.prefetch import prefetch_map


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "latent-prefetch"]


@given(count=st.integers(0, 40), depth=st.integers(0, 6), slow=st.sets(st.integers(0, 39), max_size=4))
def test_every_result_is_yielded_once_and_in_order(count, depth, slow):
    begun = []

    def make(item):
        begun.append(item)
        if item in slow:
            time.sleep(0.001)
        return -item

    assert list(prefetch_map(make, range(count), depth)) == [-item for item in range(count)]
    assert sorted(begun) == list(range(count))
    assert not threads()


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_at_most_depth_results_are_prefetched(depth):
    made = []
    batches = prefetch_map(lambda item: made.append(item) or item, range(30), depth)
    for number in range(20):
        assert next(batches) == number
        deadline = time.monotonic() + 10
        while len(made) < number + 1 + (depth + 1) // 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert number + 1 + (depth + 1) // 2 <= len(made) <= number + 1 + depth
    batches.close()
    assert not threads()


def test_a_waiting_consumer_computes_items_itself():
    makers, first_is_begun, may_end = {}, threading.Event(), threading.Event()

    def make(item):
        makers[item] = threading.current_thread().name
        if item == 0:
            first_is_begun.set()
            assert may_end.wait(10)
        elif item == 2:
            may_end.set()
        return item

    batches = prefetch_map(make, range(3), 3)
    assert next(batches) == 0, "the consumer must compute 1 and 2, since 2 lets 0 finish"
    assert list(batches) == [1, 2]
    assert len(set(makers.values())) == 2


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_exceptions_are_raised_in_order(depth):
    def make(item):
        if item == 5:
            raise ValueError("no such row")
        return item

    batches = prefetch_map(make, range(9), depth)
    assert [next(batches) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="no such row"):
        next(batches)
    assert not threads()


def test_an_interrupt_in_the_consumer_is_raised_at_once():
    """The consumer may be computing a later item than the one that it waits for."""
    consumer = threading.current_thread()

    def make(item):
        if threading.current_thread() is consumer:
            raise KeyboardInterrupt
        time.sleep(0.02)
        return item

    batches = prefetch_map(make, range(9), 4)
    with pytest.raises(KeyboardInterrupt):
        list(batches)
    assert not threads()
