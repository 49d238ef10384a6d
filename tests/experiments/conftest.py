"""The results of a comparison with figures that are made up."""

import pytest

from experiments.comparison.results import Results
from tests.support.results import make_results
from walloc_cdl.threads import torch_threads


@pytest.fixture(autouse=True)
def one_thread():
    """So that no trial chooses the number of threads, on which the last bits of the weights depend."""
    with torch_threads(1):
        yield


@pytest.fixture(scope="session")
def results() -> Results:
    return make_results()
