"""Encoding on several devices, with CPUs in place of GPUs: the codes of one encoder, in order; no thread remains."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_prep import IterableSource, PrepareConfig, forecast, open_source, prepare
from datasets_prep.decode.images import ImagePreparation
from datasets_prep.encode import encoder as encoding
from datasets_prep.encode.devices import same_kind_devices
from datasets_prep.encode.encoder import Encoder, RaggedEncoder, open_encoding
from datasets_prep.encode.several_devices import BATCHES_EACH, THREAD_NAME, SeveralDevices
from datasets_prep.encode.torch_settings import full_precision
from tests.support.pictures import encoded, picture
from tests.support.trees import contents
from walloc_cdl.codec import load_codec
from walloc_cdl.errors import JobError

CPU = torch.device("cpu")
LIMIT_S = 20.0
"""Time that a test waits for another thread before it fails."""


class PacedEncoder(Encoder):
    """An encoder that first calls `pace` with the batch, except for the batch that all devices encode."""

    pace = staticmethod(lambda signals: None)

    def encode_batch(self, batch):
        if in_device_thread():
            self.pace(batch[0])
        return super().encode_batch(batch)


def in_device_thread() -> bool:
    return threading.current_thread().name.startswith(THREAD_NAME)


def device_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


def several(count, codec="resize-rgb-16x", *, pace=None, **settings):
    encoders = [
        PacedEncoder(load_codec(codec), CPU, **{"batch": 4, "signal_shape": (3, 16, 16), **settings})
        for _ in range(count)
    ]
    for encoder in encoders:
        encoder.pace = pace or encoder.pace
    return SeveralDevices(encoders)


def signals(count, seed=0, shape=(3, 16, 16)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def waited(event):
    assert event.wait(LIMIT_S)


@settings(max_examples=40)
@given(
    codec=st.sampled_from(["resize-rgb-16x", "rgb-16x"]),
    sizes=st.lists(st.integers(0, 9), max_size=12),
    devices=st.integers(1, 4),
    batch=st.integers(1, 7),
    num_views=st.integers(1, 3),
    late=st.lists(st.booleans(), max_size=12),
)
def test_codes_are_those_of_one_encoder(codec, sizes, devices, batch, num_views, late):
    """The result does not depend on the chunks or on which device is late."""
    views = () if num_views == 1 else (num_views,)
    chunks = [signals(size, seed, (*views, 3, 16, 16)) for seed, size in enumerate(sizes)]
    lateness = iter(late)
    fixed = {"batch": batch, "signal_shape": (3, 16, 16), "num_views": num_views}
    one = Encoder(load_codec(codec), CPU, **fixed)
    together = several(devices, codec, pace=lambda batch: time.sleep(0.003 * next(lateness, False)), **fixed)
    assert (together.latent_shape, together.num_views) == (one.latent_shape, one.num_views)
    assert together.codec.spec == one.codec.spec
    for _ in range(2):  # as for one shard after another
        for mine, expected in itertools.zip_longest(together.encode(chunks), one.encode(chunks)):
            np.testing.assert_array_equal(mine, expected)
    assert device_threads() == []


def test_a_late_device_does_not_block_others_and_order_is_kept():
    chunks = [signals(4, seed) for seed in range(7)]
    others_done, num_done = threading.Event(), itertools.count(1)

    def pace(batch):
        if np.array_equal(batch, chunks[1]):
            waited(others_done)
        elif next(num_done) == 3:
            others_done.set()

    codes = list(several(2, pace=pace).encode(chunks))
    expected = list(Encoder(load_codec("resize-rgb-16x"), CPU, batch=4, signal_shape=(3, 16, 16)).encode(chunks))
    np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("devices", [2, 3])
def test_chunks_are_drawn_no_further_ahead_than_devices_need(devices):
    drawn, most, is_full = 0, BATCHES_EACH * devices, threading.Event()

    def chunks():
        nonlocal drawn
        for seed in range(40):
            drawn += 1
            if drawn == 1 + most:
                is_full.set()
            yield signals(4, seed)

    ahead = []
    for number, _ in enumerate(several(devices, pace=lambda batch: waited(is_full)).encode(chunks())):
        ahead.append(drawn - number)
    assert len(ahead) == 40
    assert max(ahead) == ahead[1] == most


class DeviceFailed(Exception):
    pass


def test_a_devices_exception_is_raised_and_ends_the_threads():
    chunks, drawn = [signals(4, seed) for seed in range(30)], []

    def pace(batch):
        if np.array_equal(batch, chunks[5]):
            raise DeviceFailed

    codes = several(3, pace=pace).encode(drawn.append(number) or chunk for number, chunk in enumerate(chunks))
    assert len(list(itertools.islice(codes, 5))) == 5
    with pytest.raises(DeviceFailed):
        next(codes)
    assert device_threads() == []
    assert len(drawn) <= 5 + 3 * BATCHES_EACH
    assert list(codes) == []


def test_the_sources_exception_is_raised_and_ends_the_threads():
    def chunks():
        yield from (signals(4, seed) for seed in range(9))
        raise DeviceFailed

    with pytest.raises(DeviceFailed):
        list(several(3).encode(chunks()))
    assert device_threads() == []


@pytest.mark.parametrize("num_views", [1, 2])
@pytest.mark.parametrize("taken", [1, 3])
def test_closing_early_ends_threads_and_source(num_views, taken):
    views, is_closed = () if num_views == 1 else (num_views,), []

    def chunks():
        try:
            for seed in itertools.count():
                yield signals(4, seed, (*views, 3, 16, 16))
        finally:
            is_closed.append(True)

    source = chunks()
    codes = several(3, num_views=num_views).encode(source)
    assert len(list(itertools.islice(codes, taken))) == taken
    codes.close()
    assert device_threads() == []
    source.close()
    assert is_closed


def test_devices_that_give_different_codes_are_refused():
    encoders = [
        Encoder(codec, CPU, batch=4, signal_shape=(3, 16, 16))
        for codec in (
            load_codec("resize-rgb-16x"),
            load_codec("resize-rgb-16x"),
            brighter(load_codec("resize-rgb-16x")),
        )
    ]
    with pytest.raises(
        JobError, match=r"^cpu gives other codes than cpu for 3 of the first 3 signals, .* --device cpu$"
    ):
        next(SeveralDevices(encoders).encode([signals(3)]))


def brighter(codec):
    codec.encode = lambda pixels: type(codec).encode(codec, pixels | 64)
    return codec


def test_signals_of_any_size():
    sizes = [(8, 8), (13, 40), (1, 1), (70, 9), (16, 16), (33, 2)]
    images = [signals(1, seed, (3, *size))[0] for seed, size in enumerate(sizes)]
    chunks = [images[:2], [], images[2:3], images[3:]] * 4
    one = RaggedEncoder(load_codec("rgb-16x"), CPU)
    together = SeveralDevices([RaggedEncoder(load_codec("rgb-16x"), CPU) for _ in range(3)])
    assert together.latent_shape == (12, None, None)
    for mine, expected in itertools.zip_longest(together.encode(chunks), one.encode(chunks)):
        assert len(mine) == len(expected)
        for codes, wanted in zip(mine, expected, strict=True):
            np.testing.assert_array_equal(codes, wanted)


@pytest.fixture
def names_of_gpus(monkeypatch):
    """Make torch see GPUs with these names; the first one is the current device."""

    def see(*names):
        current = torch.device("cuda", 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
        monkeypatch.setattr(
            torch.cuda, "get_device_name", lambda device: names[(device if device.index is not None else current).index]
        )

    return see


def test_a_device_without_a_number_stands_for_all_gpus_of_its_kind(names_of_gpus):
    names_of_gpus("H200", "T4", "H200")
    assert same_kind_devices(torch.device("cuda")) == [torch.device("cuda:0"), torch.device("cuda:2")]
    assert same_kind_devices(torch.device("cuda:2")) == [torch.device("cuda:2")]
    assert same_kind_devices(torch.device("cuda:1")) == [torch.device("cuda:1")]
    assert same_kind_devices(CPU) == [CPU]


@pytest.fixture
def three_devices(monkeypatch):
    """Make every device stand for three devices, all of them the CPU; returns the threads that encode."""
    used = []
    for kind in (Encoder, RaggedEncoder):
        monkeypatch.setattr(kind, "encode_batch", recording_threads(kind.encode_batch, used))
    monkeypatch.setattr(encoding, "same_kind_devices", lambda device: [device] * 3)
    return used


def recording_threads(encode_batch, used):
    def recorded(self, batch):
        used.append(threading.current_thread().name)
        return encode_batch(self, batch)

    return recorded


def test_no_threads_if_workers_encode_or_there_is_one_device(three_devices, rgb_codec, monkeypatch):
    preparation = ImagePreparation(3, 32)
    assert isinstance(open_encoding(rgb_codec, preparation, CPU, batch=2).encoder, SeveralDevices)
    assert open_encoding(load_codec("rgb-16x"), preparation, CPU, batch=2).in_workers is not None
    monkeypatch.undo()
    assert isinstance(open_encoding(rgb_codec, preparation, CPU, batch=2).encoder, Encoder)


@pytest.mark.parametrize("settings", [{}, {"views": "flip,crops:2"}, {"size": None, "geometry": "ragged"}])
def test_a_job_gives_the_bytes_of_one_device_even_if_interrupted(make_folder, rgb_codec, tmp_path, request, settings):
    root = make_folder(each=20)
    (root / "train/dog/01.png").write_bytes(b"-")
    config = replace(PrepareConfig(size=32, shard_samples=30, workers=0, batch=3), **settings)
    prepare(open_source(str(root)), rgb_codec, tmp_path / "one", config)
    used = request.getfixturevalue("three_devices")

    def stop(state):
        if state.done >= 48:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(open_source(str(root)), rgb_codec, tmp_path / "several", config, progress=stop)
    assert device_threads() == []
    prepare(open_source(str(root)), rgb_codec, tmp_path / "several", config)
    assert any(name.startswith(THREAD_NAME) for name in used)
    assert device_threads() == []
    assert contents(tmp_path / "several") == contents(tmp_path / "one")


def test_a_stream_gives_the_bytes_of_one_device(rgb_codec, tmp_path, request):
    samples = [(encoded(picture(seed)), seed % 2) for seed in range(50)]
    stream = IterableSource({"train": samples}, name="photos", class_names=["cat", "dog"])
    config = PrepareConfig(size=32, shard_samples=20, workers=0, batch=3)
    prepare(stream, rgb_codec, tmp_path / "one", config)
    used = request.getfixturevalue("three_devices")
    prepare(stream, rgb_codec, tmp_path / "several", config)
    assert any(name.startswith(THREAD_NAME) for name in used)
    assert contents(tmp_path / "several") == contents(tmp_path / "one")


@pytest.mark.parametrize(("workers", "decode_s", "expected"), [(0, 8.0, 8 + 2), (2, 8.0, 4), (2, 1.0, 2)])
def test_a_forecast_counts_all_devices(make_folder, rgb_codec, monkeypatch, workers, decode_s, expected):
    """Three devices take 2 s where one takes 6 s; workers decode concurrently."""
    clock = iter([100.0, 100.0 + decode_s, 200.0, 206.0])
    monkeypatch.setattr(forecast, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(forecast, "same_kind_devices", lambda device: [device] * 3)
    monkeypatch.setattr(forecast, "_workers_start_s", lambda workers: 10.0 * workers)
    monkeypatch.setattr(forecast, "_end_s", lambda planned, samples: 100.0)
    source = open_source(str(make_folder(splits=("train",))))
    found = forecast.forecast(source, rgb_codec, PrepareConfig(size=32, workers=workers), start_s=1000.0)
    assert found.time_s == pytest.approx(expected + 10 * workers + 1100)  # all samples are measured


def test_precision_is_ieee_until_the_last_thread_has_left():
    setting = torch.backends.cuda.matmul
    before, setting.fp32_precision = setting.fp32_precision, "tf32"
    is_in, may_leave, found = threading.Event(), threading.Event(), []

    def other():
        with full_precision():
            is_in.set()
            waited(may_leave)
            found.append(setting.fp32_precision)

    thread = threading.Thread(target=other)
    try:
        with full_precision():
            thread.start()
            waited(is_in)
        assert setting.fp32_precision == "ieee"
        may_leave.set()
        thread.join()
        assert found == ["ieee"]
        assert setting.fp32_precision == "tf32"
    finally:
        setting.fp32_precision = before


def test_the_number_of_torch_threads_is_restored():
    """This also holds for threads that are started later, which inherit the number that any thread set last."""
    before = torch.get_num_threads()
    torch.set_num_threads(before + 2)
    entered, both_in, first_is_done = itertools.count(), threading.Event(), threading.Event()

    def held(encode):
        def codes(pixels):
            if in_device_thread():
                number = next(entered)
                if number == 0:
                    waited(both_in)
                elif number == 1:
                    both_in.set()
                    waited(first_is_done)
            return encode(pixels)

        return codes

    class Noting(Encoder):
        def encode_batch(self, batch):
            codes = super().encode_batch(batch)
            if in_device_thread():
                first_is_done.set()
            return codes

    encoders = [Noting(load_codec("resize-rgb-16x"), CPU, batch=4, signal_shape=(3, 16, 16)) for _ in range(2)]
    for encoder in encoders:
        encoder.codec.encode = held(encoder.codec.encode)
    found = []
    try:
        assert len(list(SeveralDevices(encoders).encode([signals(4)] * 3))) == 3
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert found == [torch.get_num_threads()] == [before + 2]
    finally:
        torch.set_num_threads(before)
