"""The stored views in a batch depend on seed, epoch and position only."""

import numpy as np
import pytest

from tests.support.any_samples import write_any_set
from tests.support.drawn_rows import rank_slices
from tests.support.small_sets import make_spec
from walloc_cdl.data import GlobalBatches, LatentLoader, open_latents
from walloc_cdl.data.sampler import draw_below
from walloc_cdl.errors import CallError
from walloc_cdl.latents import LabelSpec, SampleLayout, load_manifest

LAYOUT = SampleLayout(make_spec(), (2, 2, 3), LabelSpec("class", 3), num_views=3)
SIZES = [9, 4, 0, 30]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    return folder, write_any_set(folder, LAYOUT, {"train": SIZES, "test": [7]})["train"]


def drawn_views(loader, content, epoch=0):
    """The view of each sample in the loader's batches, in the epoch's order; -1 if it is not a view of the sample."""
    loader.set_epoch(epoch)
    found = []
    for (codes, labels), rows in zip(loader, rank_slices(loader.batches, epoch), strict=True):
        np.testing.assert_array_equal(labels, content.labels[rows])
        same = (codes.numpy()[:, None] == content.codes[rows]).all((2, 3, 4))
        found.append(np.where(same.any(1), same.argmax(1), -1))
    return np.concatenate(found)


@pytest.mark.parametrize("view", [0, 2])
@pytest.mark.parametrize("residency", ["mmap", "ram", "device"])
def test_one_view_is_read_by_default(stored, view, residency):
    folder, content = stored
    dataset = open_latents(folder, view=view)
    assert (dataset.num_views, dataset.view_names) == (3, ["view 0", "view 1", "view 2"])
    codes, labels = dataset.gather([42, 0, 11])
    np.testing.assert_array_equal(codes, content.codes[[42, 0, 11], view])
    np.testing.assert_array_equal(labels, content.labels[[42, 0, 11]])
    np.testing.assert_array_equal(dataset[-1][0], content.codes[-1, view])
    loader = LatentLoader(dataset, 8, drop_last=False, residency=residency)
    assert (drawn_views(loader, content) == view).all()


@pytest.mark.parametrize("residency", ["mmap", "ram", "device"])
def test_random_views_follow_from_seed_epoch_and_position(stored, residency):
    folder, content = stored
    options = {"drop_last": False, "residency": residency, "views": "random"}
    loader = LatentLoader(open_latents(folder), 8, seed=3, **options)
    first, second = drawn_views(loader, content, 0), drawn_views(loader, content, 1)
    assert set(first) == set(second) == {0, 1, 2}
    assert (first != second).any()
    np.testing.assert_array_equal(first, drawn_views(loader, content, 0))
    np.testing.assert_array_equal(first, drawn_views(LatentLoader(open_latents(folder), 5, seed=3, **options), content))
    assert (first != drawn_views(LatentLoader(open_latents(folder), 8, seed=4, **options), content)).any()


def test_views_are_independent_of_ranks_and_resumption(stored):
    folder, _ = stored
    options = {"batch_size": 8, "drop_last": False, "views": "random"}
    whole = [codes.numpy() for codes, _ in LatentLoader(open_latents(folder), **options)]
    ranks = [
        [codes.numpy() for codes, _ in LatentLoader(open_latents(folder), rank=rank, world_size=3, **options)]
        for rank in range(3)
    ]
    for batch, parts in zip(whole, zip(*ranks, strict=True), strict=True):
        np.testing.assert_array_equal(batch, np.concatenate(parts))
    resumed = LatentLoader(open_latents(folder), **options)
    resumed.load_state_dict({**resumed.state_dict(), "batches": 2})
    for batch, (codes, _) in zip(whole[2:], resumed, strict=True):
        np.testing.assert_array_equal(batch, codes)
    with pytest.raises(CallError, match="loader state has views 'random', but this loader has None"):
        LatentLoader(open_latents(folder), 8, drop_last=False).load_state_dict(resumed.state_dict())


def test_each_view_is_as_likely_as_another():
    words = GlobalBatches(num_samples=4000, batch_size=8, shuffle=True, drop_last=False).words(0)
    for counts in (4, np.full(4000, 4)):
        times = np.bincount(draw_below(words >> np.uint64(32), counts), minlength=4)
        assert (abs(times - 1000) < 110).all(), times  # four standard deviations
    assert draw_below(np.array([0, 2**32 - 1], np.uint64), 7).tolist() == [0, 6]


def test_wrong_views_are_refused(stored, tmp_path):
    folder, _ = stored
    with pytest.raises(CallError, match=r"view 3 of .*, which stores 3 views, counted from 0: \['view 0'"):
        open_latents(folder, view=3)
    with pytest.raises(CallError, match="unknown choice of views 'randm'; nearest: random"):
        LatentLoader(open_latents(folder), 8, views="randm")
    write_any_set(tmp_path, SampleLayout(make_spec(), (2, 2, 3)), {"train": [4]})
    with pytest.raises(CallError, match="stores one view per sample"):
        LatentLoader(open_latents(tmp_path), 2, views="random")


def test_the_manifest_names_the_views(stored):
    manifest = load_manifest(stored[0])
    assert manifest.views == ["view 0", "view 1", "view 2"]
    assert manifest.histograms["train"].sum() == sum(SIZES) * 3 * 12


@pytest.mark.parametrize("residency", ["mmap", "ram", "device"])
def test_views_of_a_selection(stored, residency):
    folder, content = stored
    rows = np.array([40, 2, 2, 31, 0])
    for view in (0, 2):
        loader = LatentLoader(open_latents(folder, view=view).select(rows), 8, drop_last=False, residency=residency)
        (codes, labels), order = next(iter(loader)), rank_slices(loader.batches, 0)[0]
        np.testing.assert_array_equal(codes, content.codes[rows[order], view])
        np.testing.assert_array_equal(labels, content.labels[rows[order]])
    loader = LatentLoader(
        open_latents(folder).select(rows), 8, drop_last=False, residency=residency, views="random", seed=1
    )
    order = rank_slices(loader.batches, 0)[0]
    codes = next(iter(loader)).codes.numpy()
    views = draw_below(loader.batches.words(0) >> np.uint64(32), 3)
    np.testing.assert_array_equal(codes, content.codes[rows[order], views])
