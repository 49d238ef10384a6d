"""Ragged geometry: samples one at a time, and crops of them in batches."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Subset

from tests.support.any_samples import RAGGED, draw_any, write_any_set
from tests.support.drawn_rows import rank_slices
from tests.support.small_sets import make_spec
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import LabelSpec, SampleLayout, load_manifest, verify

SIZES = [9, 4, 0, 16]


def layout_of(kind: str) -> SampleLayout:
    return SampleLayout(make_spec(2, kind), RAGGED[kind], LabelSpec("class", 3))


@pytest.fixture(scope="module", params=["image", "audio"])
def stored(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ragged")
    return folder, write_any_set(folder, layout_of(request.param), {"train": SIZES, "test": [7]})


def test_single_samples_of_ragged_geometry(stored):
    folder, content = stored
    dataset = pickle.loads(pickle.dumps(open_latents(folder)))
    assert len(dataset) == 29
    assert dataset.latent_shape[0] == 2
    assert set(dataset.latent_shape[1:]) == {None}
    for row in (0, 9, 13, 28, -1):
        codes, label = dataset[row]
        np.testing.assert_array_equal(codes, content["train"].codes[row])
        assert (codes.dtype, label) == (torch.uint8, content["train"].labels[row])
    assert dataset.keys([28, 3]) == [content["train"].keys[row] for row in (28, 3)]
    np.testing.assert_array_equal(dataset.labels, content["train"].labels)
    with pytest.raises(IndexError):
        dataset[29]
    assert verify(folder, full=True).problems == []


def test_batches_without_a_crop_are_refused(stored):
    dataset = open_latents(stored[0])
    with pytest.raises(
        CallError, match=r"differ in size, so they cannot be batched; use LatentLoader with crop=\(h, w\)"
    ):
        dataset.gather([0, 1])
    with pytest.raises(CallError, match=r"cannot be stacked to a batch; .* crop=\(h, w\), or .* collate_fn that pads"):
        list(DataLoader(dataset, batch_size=8))
    padding = DataLoader(dataset, batch_size=8, collate_fn=lambda samples: [codes.shape for codes, _ in samples])
    assert [len(shapes) for shapes in padding] == [8, 8, 8, 5]
    with pytest.raises(CallError, match=r"differ in size; give crop=\(h, w\) in latents"):
        LatentLoader(dataset, 4)
    crop = (1,) * (len(dataset.latent_shape) - 1)
    with pytest.raises(CallError, match="differ in size and are cropped in memory; use mmap or ram"):
        LatentLoader(dataset, 4, crop=crop, residency="device")
    with pytest.raises(CallError, match=r"crop is \(1, 1, 1\); expected [12] sizes in latents"):
        LatentLoader(dataset, 4, crop=(1, 1, 1))


def test_samples_smaller_than_the_crop_are_named(stored):
    folder, content = stored
    dataset = open_latents(folder)
    sides = np.array([sample.shape[1:] for sample in content["train"].codes])
    small = (sides < 3).any(1)
    key = content["train"].keys[int(np.flatnonzero(small)[0])]
    with pytest.raises(CallError) as caught:
        LatentLoader(dataset, 4, crop=(3,) * sides.shape[1])
    assert str(caught.value).startswith(f"{small.sum()} samples of split 'train' are smaller than the crop of 3")
    assert f"the first, {key!r}, has {'x'.join(map(str, sides[small][0]))};" in str(caught.value)


def windows(codes: np.ndarray, crop: tuple[int, ...]) -> list[np.ndarray]:
    """All windows of a sample."""
    view = np.lib.stride_tricks.sliding_window_view(codes, crop, axis=tuple(range(1, codes.ndim)))
    return list(np.moveaxis(view, 0, -1 - len(crop)).reshape(-1, codes.shape[0], *crop))


@pytest.fixture(scope="module", params=["image", "audio"])
def large(request, tmp_path_factory):
    """Samples of three to seven latents per side."""
    folder, layout = tmp_path_factory.mktemp("large"), layout_of(request.param)
    rng = np.random.default_rng(5)
    from tests.support import any_samples

    def draw_large(_, layout, count):
        drawn = draw_any(rng, layout, count)
        shapes = rng.integers(3, 8, (count, len(layout.latent_shape) - 1))
        drawn.codes = [rng.integers(1, 256, (2, *shape), dtype=np.uint8) for shape in shapes]
        drawn.sizes = (shapes * 8 - rng.integers(0, 8, shapes.shape)).astype(np.int32)
        return drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(any_samples, "draw_any", draw_large)
        return (
            folder,
            write_any_set(folder, layout, {"train": SIZES, "test": [7]}),
            (3,) * (len(layout.latent_shape) - 1),
        )


@pytest.mark.parametrize("residency", ["auto", "mmap", "ram"])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_crops_are_centered_without_shuffling(large, residency, prefetch):
    folder, content, crop = large
    loader = LatentLoader(open_latents(folder, "test"), 3, crop=crop, residency=residency, prefetch=prefetch)
    found = np.concatenate([codes for codes, _ in loader])
    for codes, sample in zip(found, content["test"].codes, strict=True):
        begins = [(side - 3) // 2 for side in sample.shape[1:]]
        np.testing.assert_array_equal(codes, sample[(slice(None), *(slice(b, b + 3) for b in begins))])


def test_shuffled_crops_are_drawn_by_seed_epoch_and_position(large):
    folder, content, crop = large
    loader = LatentLoader(open_latents(folder), 8, crop=crop, seed=2, drop_last=False)
    epochs = []
    for epoch in range(12):
        loader.set_epoch(epoch)
        places = np.empty(29, np.int64)
        for (codes, labels), rows in zip(loader, rank_slices(loader.batches, epoch), strict=True):
            np.testing.assert_array_equal(labels, content["train"].labels[rows])
            for crop_codes, row in zip(codes.numpy(), rows, strict=True):
                matches = [(crop_codes == window).all() for window in windows(content["train"].codes[row], crop)]
                assert sum(matches) == 1, row
                places[row] = matches.index(True)
        epochs.append(places)
    again = LatentLoader(open_latents(folder), 8, crop=crop, seed=2, drop_last=False)
    again.set_epoch(3)
    loader.set_epoch(3)
    for (codes, _), (other, _) in zip(loader, again, strict=True):
        np.testing.assert_array_equal(codes, other)
    counts = [len(windows(sample, crop)) for sample in content["train"].codes]
    seen = [len({places[row] for places in epochs}) for row in range(29)]
    assert all((seen_ > 1) == (count > 1) for seen_, count in zip(seen, counts, strict=True))
    last = [any(places[row] == counts[row] - 1 for places in epochs) for row in range(29)]
    assert sum(last) > 5  # the last window is drawn, too


def test_ranks_share_the_crops(large):
    folder, _, crop = large
    options = {"batch_size": 8, "crop": crop, "drop_last": False}
    whole = [codes.numpy() for codes, _ in LatentLoader(open_latents(folder), **options)]
    ranks = [
        [codes.numpy() for codes, _ in LatentLoader(open_latents(folder), rank=rank, world_size=2, **options)]
        for rank in range(2)
    ]
    for batch, parts in zip(whole, zip(*ranks, strict=True), strict=True):
        np.testing.assert_array_equal(batch, np.concatenate(parts))


def test_the_manifest_has_ragged_geometry(stored):
    folder, content = stored
    manifest = load_manifest(folder)
    fields = manifest.to_json()
    assert fields["geometry"] == "ragged"
    assert fields["latent_shape"] == [2, *[None] * (len(manifest.latent_shape) - 1)]
    assert manifest.histograms["train"].sum() == sum(sample.size for sample in content["train"].codes)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), labels=st.sampled_from(["class", "multilabel", "regression"]))
def test_sizes_are_stored(tmp_path_factory, seed, labels):
    folder = tmp_path_factory.mktemp("sizes")
    layout = SampleLayout(make_spec(), RAGGED["image"], LabelSpec(labels, 2))
    content = write_any_set(folder, layout, {"train": [3, 2]}, seed=seed)["train"]
    dataset = open_latents(folder)
    sizes = np.concatenate([dataset.stored.shard(number).sizes for number in range(2)])
    np.testing.assert_array_equal(sizes, content.sizes)


@pytest.mark.parametrize("residency", ["mmap", "ram"])
def test_crops_of_a_selection(large, residency):
    folder, content, crop = large
    dataset, rows = open_latents(folder), [28, 3, 3, 11]
    loader = LatentLoader(Subset(dataset, rows), 3, crop=crop, shuffle=False, drop_last=False, residency=residency)
    found = torch.cat([codes for codes, _ in loader]).numpy()
    assert torch.cat([labels for _, labels in loader]).tolist() == content["train"].labels[rows].tolist()
    for codes, row in zip(found, rows, strict=True):
        sample = content["train"].codes[row]
        starts = [(side - size) // 2 for side, size in zip(sample.shape[1:], crop, strict=True)]
        window = tuple(slice(start, start + size) for start, size in zip(starts, crop, strict=True))
        np.testing.assert_array_equal(codes, sample[(slice(None), *window)])
