"""Limits torch to one thread: the tensors of these tests are so small that threads cost more than they save.

On a busy machine, two threads made a test of 0.7 s take 100 s, since they wait for each other after every operation.
"""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
