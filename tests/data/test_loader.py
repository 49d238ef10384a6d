import threading

import numpy as np
import pytest
import torch

from tests.support.drawn_rows import rank_slices
from tests.support.small_sets import write_small_set
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.errors import CallError, DamagedError

SIZES = [9, 4, 0, 16]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    return folder, write_small_set(folder, {"train": SIZES, "test": [7]})


def open_loader(stored, split="train", batch_size=8, **options):
    return LatentLoader(open_latents(stored[0], split), batch_size, **options)


def collect(loader):
    return [(codes.numpy(), labels.numpy()) for codes, labels in loader]


def require_equal(batches, expected):
    for (codes, labels), (other_codes, other_labels) in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(codes, other_codes)
        np.testing.assert_array_equal(labels, other_labels)


@pytest.mark.parametrize("prefetch", [0, 1, 3])
@pytest.mark.parametrize("residency", ["auto", "mmap", "ram", "device"])
def test_batches_are_the_samples_in_the_epochs_order(stored, residency, prefetch):
    content = stored[1]["train"]
    loader = open_loader(stored, residency=residency, prefetch=prefetch, seed=5)
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        batches = collect(loader)
        assert len(batches) == len(loader) == 3
        for (codes, labels), rows in zip(batches, rank_slices(loader.batches, epoch), strict=True):
            np.testing.assert_array_equal(codes, content.codes[rows])
            np.testing.assert_array_equal(labels, content.labels[rows])


def test_defaults_follow_the_split(stored):
    train, test = open_loader(stored), open_loader(stored, "test", batch_size=4)
    assert train.batches.shuffle
    assert train.batches.drop_last
    assert not test.batches.shuffle
    np.testing.assert_array_equal(np.concatenate([codes for codes, _ in collect(test)]), stored[1]["test"].codes)
    assert not open_loader(stored, shuffle=False, drop_last=False).batches.shuffle


def test_types_and_missing_labels(tmp_path):
    write_small_set(tmp_path, {"train": [4]}, labeled=False)
    ((codes, labels),) = LatentLoader(open_latents(tmp_path), 4)
    assert (codes.dtype, codes.shape) == (torch.uint8, (4, 2, 2, 3))
    assert labels.dtype == torch.int64
    assert labels.tolist() == [-1] * 4


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_ranks_share_each_global_batch(stored, world_size):
    whole = collect(open_loader(stored, drop_last=False))
    ranks = [
        collect(open_loader(stored, drop_last=False, rank=rank, world_size=world_size)) for rank in range(world_size)
    ]
    joined = [tuple(map(np.concatenate, zip(*parts, strict=True))) for parts in zip(*ranks, strict=True)]
    require_equal(joined, whole)


def test_every_rank_gets_a_sample_of_a_small_last_batch(stored):
    for rank in range(8):
        batches = collect(open_loader(stored, drop_last=False, rank=rank, world_size=8))
        assert len(batches) == len(collect(open_loader(stored, drop_last=False)))
        assert all(len(codes) for codes, *_ in batches)


def test_batches_in_use_are_not_overwritten(stored):
    """Buffers are reused, but never while a tensor or a view of one exists."""
    content = stored[1]["train"]
    loader = open_loader(stored, batch_size=2)
    views = []
    for epoch in range(6):
        loader.set_epoch(epoch)
        slices = rank_slices(loader.batches, epoch)
        for number, (codes, _) in enumerate(loader):
            if number % 3 == 0:
                views.append((codes[1:, 0], content.codes[slices[number]][1:, 0]))
    for view, expected in views:
        np.testing.assert_array_equal(view.numpy(), expected)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_resuming_at_every_step(stored, prefetch):
    options = {"batch_size": 4, "seed": 2, "prefetch": prefetch}
    whole = []
    first = open_loader(stored, **options)
    for epoch in (0, 1):
        first.set_epoch(epoch)
        whole += collect(first)
    for step in range(len(whole) + 1):
        running, seen = open_loader(stored, **options), []
        for epoch in (0, 1):
            running.set_epoch(epoch)
            for codes, labels in running:
                if len(seen) == step:
                    break
                seen.append((codes.numpy(), labels.numpy()))
                state = running.state_dict()
            if len(seen) == step:
                break
        if step == 0:
            state = open_loader(stored, **options).state_dict()
        resumed = open_loader(stored, **options)
        resumed.load_state_dict(state)
        for epoch in range(state["epoch"], 2):
            resumed.set_epoch(epoch)
            seen += collect(resumed)
        require_equal(seen, whole)


def test_state_counts_received_batches_not_prefetched_ones(stored):
    loader = open_loader(stored, batch_size=4, prefetch=4, seed=9)
    iterator = iter(loader)
    next(iterator)
    next(iterator)
    assert loader.state_dict() == {
        "epoch": 0,
        "batches": 2,
        "finished": False,
        "batch_size": 4,
        "num_samples": 29,
        "seed": 9,
        "shuffle": True,
        "views": None,
        "crop": None,
        "sampling": "uniform",
        "num_planes": 0,
        "rows_sha256": None,
    }
    iterator.close()


def test_a_second_pass_starts_from_the_beginning(stored):
    loader = open_loader(stored, batch_size=4)
    whole = collect(loader)
    next(iter(loader))
    loader.set_epoch(0)
    require_equal(collect(loader), whole)
    loader.load_state_dict({**loader.state_dict(), "batches": 5})
    assert len(collect(loader)) == 2
    loader.set_epoch(0)
    require_equal(collect(loader), whole)


def test_resuming_with_another_number_of_ranks(stored):
    whole = collect(open_loader(stored))
    state = {**open_loader(stored).state_dict(), "batches": 1}
    ranks = [open_loader(stored, rank=rank, world_size=2) for rank in range(2)]
    for loader in ranks:
        loader.load_state_dict(state)
    joined = [tuple(map(np.concatenate, zip(*parts, strict=True))) for parts in zip(*map(collect, ranks), strict=True)]
    require_equal(joined, whole[1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"batch_size": 4},
            "loader state has batch_size 8, but this loader has 4; resume with the settings of the first run",
        ),
        ({"seed": 1}, "loader state has seed 0, but this loader has 1"),
        ({"shuffle": False}, "loader state has shuffle True, but this loader has False"),
        ({"split": "test", "batch_size": 7, "shuffle": True}, "batch_size 8, but this loader has 7"),
    ],
)
def test_foreign_states_are_refused(stored, options, message):
    state = open_loader(stored).state_dict()
    with pytest.raises(CallError, match=message):
        open_loader(stored, **options).load_state_dict(state)


def test_impossible_positions_are_refused(stored):
    loader = open_loader(stored)
    with pytest.raises(CallError, match="loader state has 9 batches of 3; start the epoch again"):
        loader.load_state_dict({**loader.state_dict(), "batches": 9})


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("latent-prefetch")]


def test_closing_the_iterator_ends_the_threads(stored):
    for number, _ in enumerate(open_loader(stored, batch_size=2)):
        assert prefetch_threads()
        if number == 3:
            break
    assert not prefetch_threads()
    iterator = iter(open_loader(stored, batch_size=2))
    next(iterator)
    del iterator
    assert not prefetch_threads()


@pytest.mark.parametrize("prefetch", [0, 2])
def test_damage_reaches_the_consumer(tmp_path, prefetch):
    write_small_set(tmp_path, {"test": [6, 6]})
    loader = LatentLoader(open_latents(tmp_path, "test"), 3, prefetch=prefetch)
    assert loader.dataset.labels.shape == (12,)  # maps both shards, which are undamaged
    fresh = LatentLoader(open_latents(tmp_path, "test"), 3, prefetch=prefetch)
    fresh.dataset.__dict__["labels"] = loader.dataset.labels
    (tmp_path / "test-00001.safetensors").write_bytes(b"")
    iterator = iter(fresh)
    next(iterator)
    next(iterator)
    with pytest.raises(DamagedError, match=r"test-00001\.safetensors: 0 bytes, expected \d+; restore"):
        next(iterator)
    assert not prefetch_threads()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residency": "disk"}, "unknown residency 'disk'.*choose one of auto, mmap, ram, device"),
        ({"device": "gpu9"}, "device 'gpu9' is not a torch device; use cpu, cuda or cuda:N"),
        ({"rank": 2, "world_size": 2}, "rank 2 of 2 with batches of 8"),
        ({"world_size": 9}, "rank 0 of 9 with batches of 8; .* at least one sample per rank"),
        ({"prefetch": -1}, "prefetch is -1; it must be 0"),
        ({"batch_size": 30}, "batch size 30 is more than the 29 samples"),
    ],
)
def test_wrong_calls(stored, options, message):
    with pytest.raises(CallError, match=message):
        open_loader(stored, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_an_absent_device_is_refused(stored):
    with pytest.raises(CallError, match="device 'cuda' was requested, but torch finds no CUDA device; use cpu"):
        open_loader(stored, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("residency", ["mmap", "ram", "device"])
def test_batches_on_a_cuda_device(stored, residency):
    expected = collect(open_loader(stored, batch_size=2))
    batches = []
    for codes, labels in open_loader(stored, batch_size=2, device="cuda", residency=residency):
        assert codes.is_cuda
        assert labels.is_cuda
        batches.append((codes.cpu().numpy(), labels.cpu().numpy()))
    require_equal(batches, expected)
