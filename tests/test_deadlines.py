"""Time limits for calls that have none of their own."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref

import pytest

from walloc_cdl import retries
from walloc_cdl.retries import Deadline, transfer_s


def test_results_and_errors_of_calls():
    deadline = Deadline(10)
    assert deadline.call(lambda: 3) == 3
    with pytest.raises(KeyError, match="x"):
        deadline.call(lambda: {}["x"])
    with pytest.raises(SystemExit):
        deadline.call(lambda: (_ for _ in ()).throw(SystemExit(2)))
    assert not deadline.has_passed
    assert 9 < deadline.left_s() <= 10


def test_a_call_that_does_not_end():
    begin, end = time.monotonic(), threading.Event()
    deadline = Deadline(0.1)
    with pytest.raises(TimeoutError, match=r"^took longer than 0.1 s$"):
        deadline.call(lambda: end.wait(10))
    assert time.monotonic() - begin < 2
    assert deadline.has_passed
    with pytest.raises(TimeoutError, match=r"^took longer than 0.1 s$"):  # not called again
        deadline.call(end.set)
    assert not end.is_set()
    assert Deadline(10).call(lambda: 3) == 3  # by another thread
    end.set()


def test_one_thread_makes_the_calls_of_a_thread():
    """File systems of fsspec have an instance for each thread."""
    threads = {Deadline(10).call(threading.get_ident) for _ in range(20)}
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    others: list[int] = []
    other = threading.Thread(target=lambda: others.append(Deadline(10).call(threading.get_ident)))
    other.start()
    other.join()
    assert not threads & set(others)


def test_threads_end_with_the_thread_that_they_work_for():
    before = threading.active_count()
    threads = [threading.Thread(target=lambda: Deadline(10).call(int)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_results_are_not_kept():
    class Large:
        pass

    found = Deadline(10).call(Large)
    alive = weakref.ref(found)
    del found
    end = time.monotonic() + 5
    while alive() is not None and time.monotonic() < end:  # the other thread forgets it in its own time
        time.sleep(0.001)
    assert alive() is None


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_calls_in_a_forked_process():
    assert Deadline(10).call(lambda: 3) == 3
    child = os.fork()
    if not child:
        try:
            os._exit(0 if Deadline(5).call(lambda: 4) == 4 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_time_of_transfers(monkeypatch):
    monkeypatch.setattr(retries, "SLOWEST_BYTES_PER_S", 100)
    assert transfer_s(50) == retries.REMOTE_S + 0.5
    deadline = Deadline(10)
    deadline.allow_for(1000)
    assert deadline.limit_s == 20
    assert 19 < deadline.left_s() <= 20
