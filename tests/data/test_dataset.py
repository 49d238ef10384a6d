import pickle

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from tests.support.operators import random_operators
from tests.support.small_sets import CLASS_NAMES, make_spec, write_small_set
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.latents import LabelSpec, channel_statistics, code_histogram
from walloc_cdl.linear.operators import operators_to_bytes
from walloc_cdl.linear.synthesis import LinearSynthesis, synthesis_to_bytes

SIZES = [5, 1, 0, 7]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    return folder, write_small_set(folder, {"train": SIZES, "test": [3]})


@given(st.lists(st.integers(0, 12), max_size=30))
def test_gather_equals_fancy_indexing(stored, indices):
    folder, content = stored
    dataset = open_latents(folder)
    codes, labels = dataset.gather(indices)
    rows = np.array(indices, dtype=np.int64)
    assert codes.dtype == torch.uint8
    assert labels.dtype == torch.int64
    np.testing.assert_array_equal(codes.numpy(), content["train"].codes[rows])
    np.testing.assert_array_equal(labels.numpy(), content["train"].labels[rows])
    assert dataset.keys(indices) == [content["train"].keys[row] for row in rows]


def test_single_samples(stored):
    folder, content = stored
    dataset = open_latents(folder, "test")
    assert len(dataset) == 3
    for index in (0, 2, -1):
        codes, label = dataset[index]
        np.testing.assert_array_equal(codes.numpy(), content["test"].codes[index])
        assert label == content["test"].labels[index]
    assert len(list(dataset)) == 3


@pytest.mark.parametrize("indices", [[13], [-1], [0, 99]])
def test_indices_outside_the_split(stored, indices):
    with pytest.raises(IndexError, match=rf"sample indices from .*{indices[-1]}, expected 0 to 12"):
        open_latents(stored[0]).gather(indices)


def test_properties_that_classifiers_use(stored):
    folder, content = stored
    dataset = open_latents(folder, "test")
    assert dataset.spec == make_spec()
    assert dataset.latent_shape == (2, 2, 3)
    assert dataset.class_names == CLASS_NAMES
    assert dataset.num_classes == 3
    np.testing.assert_array_equal(dataset.labels, content["test"].labels)
    expected = channel_statistics(code_histogram(content["train"].codes, 2), make_spec())
    np.testing.assert_array_equal(dataset.statistics.mean, expected.mean)
    np.testing.assert_array_equal(dataset.statistics.std, expected.std)


def test_statistics_without_a_train_split(tmp_path):
    content = write_small_set(tmp_path, {"test": [4]})
    expected = channel_statistics(code_histogram(content["test"].codes, 2), make_spec())
    np.testing.assert_array_equal(open_latents(tmp_path, "test").statistics.mean, expected.mean)


def test_data_without_labels_have_unknown_labels(tmp_path):
    write_small_set(tmp_path, {"train": [4, 2]}, labeled=False)
    dataset = open_latents(tmp_path)
    assert dataset.labels.tolist() == [-1] * 6
    assert dataset.class_names is None
    assert dataset.num_classes == 0


def test_wrong_calls(stored, tmp_path):
    with pytest.raises(CallError, match=r"unknown split 'tset'; nearest: test; .* has test, train"):
        open_latents(stored[0], "tset")
    with pytest.raises(CallError, match="is not a data set"):
        open_latents(tmp_path)


def test_opening_reads_no_shard(tmp_path):
    write_small_set(tmp_path, {"train": SIZES})
    (tmp_path / "train-00003.safetensors").write_bytes(b"cut")
    dataset = open_latents(tmp_path)
    assert len(dataset) == 13
    assert dataset.stored.shard(0).codes.shape == (5, 2, 2, 3)
    assert dataset[4][1] == dataset.gather([5, 4])[1][1]  # reads the shards of these samples only
    with pytest.raises(DamagedError, match=r"train-00003\.safetensors: 3 bytes, expected \d+; restore"):
        dataset.gather([12])


def test_labels_beyond_the_class_names(tmp_path, monkeypatch):
    write_small_set(tmp_path, {"train": [8]})
    dataset = open_latents(tmp_path)
    monkeypatch.setitem(dataset.layout.__dict__, "labels", LabelSpec("class", 1))
    with pytest.raises(DamagedError, match="label 2 of sample 0, expected -1 to 0; run `cdl verify --full`"):
        dataset.gather([0])
    with pytest.raises(DamagedError, match="label 2 of sample 0, expected -1 to 0"):
        _ = dataset[0]
    with pytest.raises(DamagedError, match="label 2 of sample 0, expected -1 to 0"):
        _ = dataset.labels


def test_synthesis_bank(tmp_path):
    rng = np.random.default_rng(0)
    layer = LinearSynthesis(*(rng.random(size).astype(np.float32) for size in ((4, 2, 5, 5), 4, 1, 1)))
    write_small_set(tmp_path, {"train": [2]}, files={"codec/synthesis.safetensors": synthesis_to_bytes({2: layer})})
    np.testing.assert_array_equal(open_latents(tmp_path).synthesis_bank[2].weight, layer.weight)
    (tmp_path / "codec" / "synthesis.safetensors").unlink()
    with pytest.raises(DamagedError, match=r"synthesis\.safetensors is missing; restore it"):
        _ = open_latents(tmp_path).synthesis_bank


def test_operators(tmp_path):
    expected = random_operators(make_spec())
    write_small_set(tmp_path, {"train": [2]}, files={"codec/operators.safetensors": operators_to_bytes(expected)})
    dataset = open_latents(tmp_path)
    assert dataset.has_operators
    np.testing.assert_array_equal(dataset.operators.hflip_weight, expected.hflip_weight)
    (tmp_path / "codec" / "operators.safetensors").write_bytes(b"other")
    with pytest.raises(DamagedError, match=r"operators\.safetensors"):
        _ = open_latents(tmp_path).operators
    (tmp_path / "codec" / "operators.safetensors").unlink()
    with pytest.raises(DamagedError, match=r"operators\.safetensors is missing; restore it"):
        _ = open_latents(tmp_path).operators


@pytest.mark.parametrize(
    ("shape", "reason"),
    [((2, 2, 3), "an earlier version, .*; prepare it again, or augment"), ((2, 5), "audio has none.; augment what")],
)
def test_data_sets_without_operators(tmp_path, shape, reason):
    write_small_set(tmp_path, {"train": [2]}, shape=shape)
    dataset = open_latents(tmp_path)
    assert not dataset.has_operators
    with pytest.raises(CallError, match=rf"has no operators of flips \(.*{reason}"):
        _ = dataset.operators


def test_a_plain_torch_loader_works(stored):
    folder, content = stored
    loader = DataLoader(open_latents(folder), batch_size=4)
    batches = list(loader)
    assert [len(codes) for codes, _ in batches] == [4, 4, 4, 1]
    np.testing.assert_array_equal(torch.cat([codes for codes, _ in batches]).numpy(), content["train"].codes)
    np.testing.assert_array_equal(torch.cat([labels for _, labels in batches]).numpy(), content["train"].labels)


@pytest.mark.slow
def test_a_torch_loader_with_workers_works(stored):
    folder, content = stored
    dataset = open_latents(folder)
    dataset.gather([0, 12])
    loader = DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context="spawn")
    np.testing.assert_array_equal(torch.cat([codes for codes, _ in loader]).numpy(), content["train"].codes)


def test_pickling_leaves_out_the_maps(stored):
    folder, content = stored
    dataset = open_latents(folder)
    fresh = len(pickle.dumps(dataset))
    dataset.gather(range(13))
    assert len(pickle.dumps(dataset)) == fresh
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again.gather([6, 0])[0].numpy(), content["train"].codes[[6, 0]])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_reading_is_independent_of_the_division_into_shards(tmp_path_factory, sizes, seed):
    folder = tmp_path_factory.mktemp("division")
    content = write_small_set(folder, {"train": sizes}, seed=seed)
    order = np.random.default_rng(seed).permutation(sum(sizes))
    np.testing.assert_array_equal(open_latents(folder).gather(order)[0].numpy(), content["train"].codes[order])
