import pytest
import torch

from tests.support.small_sets import write_small_set
from walloc_cdl.data import open_latents, residency
from walloc_cdl.errors import CallError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    write_small_set(folder, {"train": [5]})
    return open_latents(folder)  # 60 bytes of codes


@pytest.mark.parametrize(
    ("asked", "device", "free", "chosen"),
    [
        ("auto", CPU, 0, "mmap"),
        ("device", CPU, 0, "ram"),
        ("ram", CPU, 0, "ram"),
        ("auto", CUDA, 120, "device"),
        ("auto", CUDA, 119, "mmap"),
        ("device", CUDA, 60, "device"),
        ("mmap", CUDA, 10**6, "mmap"),
        ("ram", CUDA, 10**6, "ram"),
    ],
)
def test_choice(dataset, monkeypatch, asked, device, free, chosen):
    monkeypatch.setattr(residency, "free_bytes", lambda device: free)
    assert residency.choose_residency(asked, dataset, device) == chosen


def test_a_split_that_does_not_fit_is_refused(dataset, monkeypatch):
    monkeypatch.setattr(residency, "free_bytes", lambda device: 59)
    message = "split 'train' needs 60 bytes on cuda, where 59 are free; use residency mmap or ram"
    with pytest.raises(CallError, match=message):
        residency.choose_residency("device", dataset, CUDA)
