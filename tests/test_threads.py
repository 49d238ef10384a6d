"""The number of torch's threads, chosen by trials of a job on a clock that does not depend on this machine."""

import pytest
import torch

from walloc_cdl.errors import CallError
from walloc_cdl.threads import choose_threads, require_threads, torch_threads


class Job:
    """Work that takes, on its own clock, the given seconds for the number of threads that is set."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds, self.now, self.calls = seconds, 0.0, []

    def __call__(self) -> None:
        self.calls.append(torch.get_num_threads())
        self.now += self.seconds[torch.get_num_threads()]

    def choose(self, num_calls: int) -> int:
        return choose_threads(self, num_calls, clock=lambda: self.now)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({4: 0.1, 2: 0.18, 1: 0.33}, 4),  # a quiet machine
        ({4: 2.6, 2: 1.1, 1: 0.1}, 1),  # two other programs keep the processors busy
        ({4: 1.0, 2: 0.1, 1: 0.19}, 2),  # two processors are free
        ({4: 0.11, 2: 0.1, 1: 0.1}, 4),  # no clear difference
    ],
)
def test_the_fastest_number_of_threads_is_chosen(seconds, chosen):
    with torch_threads(4):
        job = Job(seconds)
        assert job.choose(1000) == chosen
        assert torch.get_num_threads() == 4


def test_numbers_that_are_far_behind_are_tried_no_further():
    with torch_threads(4):
        job = Job({4: 2.6, 2: 1.1, 1: 0.1})
        job.choose(1000)
        assert job.calls.count(4) == 2
        assert job.now < 7


def test_a_single_slow_trial_does_not_decide():
    """The first trial of four threads after the two that estimate the time is disturbed."""
    with torch_threads(4):
        job = Job({4: 0.1, 2: 0.18, 1: 0.33})
        trials = []

        def work() -> None:
            job()
            if torch.get_num_threads() == 4:
                trials.append(job.now)
                if len(trials) == 3:
                    job.now += 0.12

        assert choose_threads(work, 1000, clock=lambda: job.now) == 4


def test_a_short_job_keeps_the_number_of_threads():
    with torch_threads(4):
        job = Job({4: 0.1, 2: 0.01, 1: 0.01})
        assert job.choose(50) == 4
        assert job.calls == [4]


def test_one_thread_needs_no_trial():
    with torch_threads(1):
        job = Job({})
        assert job.choose(1000) == 1
        assert job.calls == []


def test_the_number_of_threads_is_restored_after_an_error():
    before, seen = torch.get_num_threads(), []

    def fail() -> None:
        seen.append(torch.get_num_threads())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), torch_threads(before + 1):
        fail()
    assert seen == [before + 1]
    assert torch.get_num_threads() == before
    with torch_threads(None):
        assert torch.get_num_threads() == before


@pytest.mark.parametrize("number", [0, -1, 10**9])
def test_impossible_numbers_of_threads_are_refused(number):
    with pytest.raises(CallError, match=f"threads is {number}; it must be at least 1 and at most 4,096"):
        require_threads(number)
