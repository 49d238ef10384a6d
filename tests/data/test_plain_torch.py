"""Plain torch `DataLoader`s over a data set, and over the data sets that torch makes of it.

Every loader has the default collate function. Each way to read yields the same type of batch.
"""

import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    default_collate,
    random_split,
)
from torch.utils.data._utils import pin_memory

from tests.support.any_samples import write_any_set
from tests.support.small_sets import make_spec, write_small_set
from walloc_cdl.data import LatentBatch, LatentLoader, LatentSample, as_latents, open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import LabelSpec, SampleLayout

ROWS = [12, 3, 3, 0, 7]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    return folder, write_small_set(folder, {"train": [5, 1, 0, 7], "test": [3]})["train"]


def split(dataset):
    """The second part of a random split, and its rows."""
    part = random_split(dataset, [8, 5], torch.Generator().manual_seed(0))[1]
    return part, part.indices


MADE = {
    "whole": lambda dataset: (dataset, range(13)),
    "subset": lambda dataset: (Subset(dataset, ROWS), ROWS),
    "subset of numpy": lambda dataset: (Subset(dataset, np.array(ROWS)), ROWS),
    "subset of a tensor": lambda dataset: (Subset(dataset, torch.tensor(ROWS)), ROWS),
    "subset from the end": lambda dataset: (Subset(dataset, [-1, 0, -13]), [12, 0, 0]),
    "subset of a subset": lambda dataset: (Subset(Subset(dataset, ROWS), [4, 0]), [7, 12]),
    "random split": split,
    "slice": lambda dataset: (dataset[2:11:3], [2, 5, 8]),
    "slice from the end": lambda dataset: (dataset[-3:], [10, 11, 12]),
    "selection": lambda dataset: (dataset.select(ROWS), ROWS),
    "subset of a slice": lambda dataset: (Subset(dataset[4:], [0, 8, -1]), [4, 12, 12]),
    "concatenation": lambda dataset: (ConcatDataset([dataset[:5], Subset(dataset, ROWS)]), [0, 1, 2, 3, 4, *ROWS]),
}


def batches_hold(batches, content, rows, size=4):
    """Check the type, the size and the content of all batches of these rows."""
    batches, rows = list(batches), list(rows)
    assert [type(batch) for batch in batches] == [LatentBatch] * len(batches)
    assert [len(codes) for codes, _ in batches] == [len(rows[i : i + size]) for i in range(0, len(rows), size)]
    codes, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert (codes.dtype, labels.dtype) == (torch.uint8, torch.int64)
    np.testing.assert_array_equal(codes, content.codes[rows])
    np.testing.assert_array_equal(labels, content.labels[rows])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", MADE)
def test_the_default_collate_makes_batches(stored, name, workers):
    folder, content = stored
    dataset, rows = MADE[name](open_latents(folder))
    options = {"num_workers": workers, "multiprocessing_context": "fork" if workers else None}
    batches_hold(DataLoader(dataset, 4, **options), content, rows)


@pytest.mark.slow
def test_the_default_collate_makes_batches_in_spawned_workers(stored):
    folder, content = stored
    everything = ConcatDataset([make(open_latents(folder))[0] for make in MADE.values() if make is not split])
    rows = [row for make in MADE.values() if make is not split for row in make(open_latents(folder))[1]]
    for dataset, expected in [(everything, rows), MADE["random split"](open_latents(folder))]:
        loader = DataLoader(dataset, 4, num_workers=2, multiprocessing_context="spawn")
        batches_hold(loader, content, expected)


@pytest.mark.parametrize("name", MADE)
def test_a_batch_is_read_at_once(stored, name, monkeypatch):
    """Also of subsets; torch's ConcatDataset alone reads item by item."""
    dataset, rows = MADE[name](open_latents(stored[0]))
    singles = []
    read = type(open_latents(stored[0])).__getitem__
    monkeypatch.setattr(
        "walloc_cdl.data.LatentDataset.__getitem__", lambda self, index: singles.append(index) or read(self, index)
    )
    list(DataLoader(dataset, 4))
    assert len(singles) == (len(list(rows)) if name == "concatenation" else 0)


def test_samplers_of_batches(stored):
    folder, content = stored
    dataset = open_latents(folder)
    batches_hold(DataLoader(dataset, batch_sampler=BatchSampler(range(13), 4, drop_last=False)), content, range(13))
    for each, rows in ((dataset, range(13)), (Subset(dataset, ROWS), ROWS), (dataset[3:9], range(3, 9))):
        lists = BatchSampler(SequentialSampler(each), 4, drop_last=False)
        batches_hold(DataLoader(each, batch_size=None, sampler=lists), content, rows)
    assert [len(codes) for codes, _ in DataLoader(dataset, 4, drop_last=True)] == [4, 4, 4]
    shuffled = DataLoader(dataset, 4, sampler=RandomSampler(dataset))
    assert sorted(label for _, labels in shuffled for label in labels.tolist()) == sorted(content.labels.tolist())


def test_samples_without_batches(stored):
    folder, content = stored
    samples = list(DataLoader(open_latents(folder), batch_size=None))
    assert {type(sample) for sample in samples} == {LatentSample}
    assert [sample.label for sample in samples] == content.labels.tolist()
    np.testing.assert_array_equal(samples[12].codes, content.codes[12])


def test_pinned_batches_keep_their_type(stored, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self.clone())
    folder, content = stored
    for dataset, rows in (make(open_latents(folder)) for make in MADE.values()):
        batches_hold(map(pin_memory.pin_memory, DataLoader(dataset, 4)), content, rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns where there is nothing to pin for
        batches_hold(DataLoader(open_latents(folder), 4, pin_memory=True), content, range(13))


def test_other_collate_functions_get_samples(stored):
    folder, content = stored
    loader = DataLoader(open_latents(folder), 4, collate_fn=lambda samples: samples)
    for start, samples in zip(range(0, 13, 4), loader, strict=True):
        assert len(samples) == len(content.labels[start : start + 4])
        for row, (codes, label) in enumerate(samples, start=start):
            np.testing.assert_array_equal(codes, content.codes[row])
            assert (type(label), label) == (int, content.labels[row])
        assert [label for _, label in samples[1:]] == content.labels[start : start + 4][1:].tolist()


def test_samples_within_samples_of_others(stored):
    """A data set of somebody else may hold ours, beside other values."""

    class Numbered(Dataset):
        def __init__(self, dataset):
            self.dataset = dataset

        def __len__(self):
            return len(self.dataset)

        def __getitem__(self, index):
            return {"sample": self.dataset[index], "index": index}

    folder, content = stored
    batches = list(DataLoader(Numbered(open_latents(folder)), 4))
    batches_hold((batch["sample"] for batch in batches), content, range(13))
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(13))


@pytest.mark.parametrize("kind", ["multilabel", "regression", "none"])
def test_labels_of_every_kind(tmp_path, kind):
    labels = {"multilabel": LabelSpec("multilabel", 3), "regression": LabelSpec("regression", 2)}.get(kind, LabelSpec())
    write_any_set(tmp_path, SampleLayout(make_spec(), (2, 2, 3), labels), {"train": [5, 4]})
    dataset = open_latents(tmp_path)
    together = list(DataLoader(dataset, 4))
    single = [default_collate([dataset[row] for row in range(start, min(start + 4, 9))]) for start in (0, 4, 8)]
    for first, second in zip(together, single, strict=True):
        assert (type(first), first.labels.dtype) == (type(second), second.labels.dtype)
        torch.testing.assert_close(tuple(first), tuple(second), rtol=0, atol=0, equal_nan=True)


def test_a_slice_is_a_data_set(stored):
    folder, content = stored
    part = open_latents(folder)[3:9]
    assert len(part) == 6
    assert part.labels.tolist() == content.labels[3:9].tolist()
    assert part.keys([0, 5]) == [content.keys[3], content.keys[8]]
    assert part[-1].label == content.labels[8]
    assert part[1:][0].label == content.labels[4]
    np.testing.assert_array_equal(part[[5, -6]].codes, content.codes[[8, 3]])
    np.testing.assert_array_equal(part.statistics.mean, open_latents(folder).statistics.mean)
    assert len(open_latents(folder)[5:5]) == 0
    with pytest.raises(IndexError, match="sample indices from 6 to 6, expected 0 to 5"):
        part[6]
    with pytest.raises(IndexError, match="from -7 to -7, expected 0 to 5"):
        part.select([-13])
    with pytest.raises(IndexError, match=r"are bool of shape \(6,\), expected a list of integers; for a mask use"):
        part[np.array([True, False] * 3)]


@pytest.mark.parametrize("residency", ["mmap", "ram", "device"])
@pytest.mark.parametrize("name", [name for name in MADE if name != "concatenation"])
def test_latent_loader_reads_the_same_samples(stored, name, residency, monkeypatch):
    monkeypatch.setattr("walloc_cdl.data.readers.LOADED_ROWS", 2)
    folder, content = stored
    dataset, rows = MADE[name](open_latents(folder))
    loader = LatentLoader(dataset, 4, shuffle=False, drop_last=False, residency=residency)
    assert len(loader.dataset) == len(list(rows))
    batches_hold(loader, content, rows)


def test_a_state_belongs_to_its_samples(stored):
    dataset = open_latents(stored[0])
    state = LatentLoader(dataset.select(ROWS), 2).state_dict()
    for other in (dataset.select(ROWS[::-1]), dataset[:5]):
        with pytest.raises(CallError, match=r"loader state has rows_sha256 .*, but this loader has"):
            LatentLoader(other, 2).load_state_dict(state)
    LatentLoader(Subset(dataset, ROWS), 2).load_state_dict(state)


def test_what_is_no_data_set_of_latents_is_refused(stored):
    dataset = open_latents(stored[0])

    class Brighter(Subset):
        def __getitem__(self, index):
            codes, label = super().__getitem__(index)
            return codes + 1, label

        def __getitems__(self, indices):
            return [self[index] for index in indices]

    for other in (ConcatDataset([dataset, dataset]), Brighter(dataset, [0]), [1, 2]):
        with pytest.raises(CallError, match=rf"is a {type(other).__name__}; expected .*Subset of it; .*`cdl merge`"):
            as_latents(other)
    with pytest.raises(CallError, match="is a ConcatDataset; expected one of open_latents"):
        LatentLoader(ConcatDataset([dataset, dataset]), 2)
