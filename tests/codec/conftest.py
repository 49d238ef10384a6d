"""One torch thread: these tests' tensors are so small that threads cost more than they save.

Two of them on a busy machine made a test of 0.7 s take 100: at the end of each small operation they wait
for each other.
"""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
