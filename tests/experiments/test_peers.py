"""Peers read the same samples, and encode to the same codes, in each of their settings."""

import importlib.util
from collections import Counter

import numpy as np
import pytest
import torch

from experiments.benchmarks.encoding import signal_shape
from experiments.benchmarks.loading import limit_readers
from experiments.benchmarks.reading import loader_settings
from experiments.benchmarks.synthetic import SyntheticSet, synthetic_signals, write_photos, write_synthetic_set
from experiments.peers.catalog import PEERS, choose_peers, peer_names
from experiments.peers.peer import Absent, ReadingTask
from walloc_cdl.codec import load_codec
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError

READERS = [name for name in peer_names("load") if not PEERS[name].reads_images]


@pytest.fixture
def task(tmp_path) -> ReadingTask:
    write_synthetic_set(tmp_path / "set", SyntheticSet(40 * 768, (3, 16, 16), num_shards=2))
    (tmp_path / "peers").mkdir()
    return ReadingTask(tmp_path / "set", tmp_path / "peers", batch_size=16, threads=1)


def counted(batches) -> Counter:
    """Counts how often each sample with its label occurs."""
    found = Counter()
    for codes, labels in batches:
        assert codes.dtype == torch.uint8
        assert labels.dtype == torch.int64
        assert len(codes) == len(labels)
        found.update((row.numpy().tobytes(), int(label)) for row, label in zip(codes, labels, strict=True))
    return found


def stored(task) -> Counter:
    codes, labels = task.dataset.gather(range(len(task.dataset)))
    return counted([(codes, labels)])


@pytest.mark.parametrize("name", READERS)
def test_every_setting_of_a_reader_yields_the_samples_once_an_epoch(task, name):
    peer = PEERS[name]
    if not peer.is_installed:
        pytest.skip(f"{peer.package} is not installed")
    settings = peer.read_settings(task)
    assert len({setting.text for setting in settings}) == len(settings)
    for setting in settings:
        assert setting.documented
        for epoch in range(2):
            assert counted(setting.work(epoch)) == stored(task), setting.text


def test_every_setting_of_the_loader_yields_the_samples_once_an_epoch(task):
    for settings in loader_settings(task).values():
        for setting in settings:
            assert counted(setting.work(0)) == stored(task), setting.text


def test_the_limit_reads_all_codes_too(task):
    for read in limit_readers(task, 2).values():
        found = Counter(row.numpy().tobytes() for codes, _ in read(0) for row in codes)
        assert found == Counter(codes for codes, _ in stored(task).elements())


@pytest.mark.parametrize("crop", ["random", "center"])
def test_imagefolder_yields_pixels_of_all_images(tmp_path, crop):
    write_photos(tmp_path / "images", num=12)
    task = ReadingTask(tmp_path, tmp_path, tmp_path / "images", 32, crop, batch_size=5, threads=1)
    for setting in PEERS["imagefolder"].read_settings(task):
        batches = list(setting.work(0))
        assert Counter(torch.cat([labels for _, labels in batches]).tolist()) == Counter(
            {**dict.fromkeys(range(2), 2), **dict.fromkeys(range(2, 10), 1)}
        )
        pixels = torch.cat([images for images, _ in batches])
        assert (pixels.shape, pixels.dtype) == ((12, 3, 32, 32), torch.uint8)
        assert pixels.float().std() > 10


@pytest.mark.parametrize("codec", ["rgb-16x", "stereo-5x"])
@pytest.mark.parametrize("name", peer_names("encode"))
def test_encoders_compute_the_codes_of_the_codec(monkeypatch, name, codec):
    peer = PEERS[name]
    if not peer.is_installed:
        pytest.skip(f"{peer.package} is not installed")
    monkeypatch.setattr("experiments.benchmarks.encoding.IMAGE_SIDE", 128)
    model = load_codec(codec)
    (signal,) = synthetic_signals(model.kind, model.source_channels, signal_shape(model, 2), 1, seed=0)
    expected = model.encode(signal)
    for setting in peer.encode_settings(model):
        codes = setting.work(signal)
        assert (codes.shape, codes.dtype) == (expected.shape, torch.uint8)
        # Both compute in float32, so a few codes in 100,000 are rounded differently.
        difference = (codes.short() - expected.short()).abs()
        assert difference.max() <= 1
        assert (difference == 0).float().mean() > 0.9995


def test_walloc_refuses_unsupported_codecs():
    if not PEERS["walloc"].is_installed:
        pytest.skip("walloc is not installed")
    with pytest.raises(CallError, match="codec resize-rgb-4x has no linear WaLLoC encoder"):
        PEERS["walloc"].encode_settings(load_codec("resize-rgb-4x"))


def test_absent_peers_are_named(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "litdata" else real(name))
    chosen, absent = choose_peers("load", "dataloader,litdata")
    assert [peer.name for peer in chosen] == ["dataloader"]
    assert absent == [Absent("litdata", "litdata is not installed; pip install 'walloc-cdl[bench]'")]


def test_peers_that_cannot_be_imported_are_named_too():
    from experiments.benchmarks.autotune import choose_peer_settings

    def fail(peer):
        raise ImportError("no module named 'diffusers'")

    entered, absent = choose_peer_settings([PEERS["walloc"]], fail, [lambda work: lambda repeat: 1.0])
    assert entered == []
    assert absent == [Absent("walloc", "walloc cannot be imported: no module named 'diffusers'")]


def test_choosing_peers():
    assert [peer.name for peer in choose_peers("encode", "torch, torch,")[0]] == ["torch"]
    assert choose_peers("load", "") == ([], [])
    chosen, absent = choose_peers("prepare", None)
    assert [peer.name for peer in chosen] + [missing.name for missing in absent] == ["imagefolder"]


@pytest.mark.parametrize(("benchmark", "name"), [("load", "webdatset"), ("load", "walloc"), ("encode", "hf")])
def test_wrong_names_are_refused(benchmark, name):
    known = ", ".join(peer_names(benchmark))
    with pytest.raises(CallError, match=f"unknown peer '{name}'.*choose among {known}"):
        choose_peers(benchmark, name)


def test_a_synthetic_data_set_is_reproducible(tmp_path):
    for folder in ("a", "b"):
        write_synthetic_set(tmp_path / folder, SyntheticSet(20 * 768, (3, 16, 16), seed=3))
    first, second = (open_latents(tmp_path / folder).gather(range(20)) for folder in ("a", "b"))
    assert all(np.array_equal(left, right) for left, right in zip(first, second, strict=True))
