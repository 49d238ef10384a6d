"""What benchmarks do and report; no test asserts a time."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from experiments.benchmarks.autotune import choose_setting
from experiments.benchmarks.encoding import EncodeBenchmark, measure_encoding, signal_shape
from experiments.benchmarks.limits import WORK, EncodeCost, LimitWork, make_copy_run, make_matmul_run
from experiments.benchmarks.loading import feed_consumer, measure_loading, waiting_share
from experiments.benchmarks.preparing import PrepareBenchmark, measure_preparation
from experiments.benchmarks.reading import ReadingConfig
from experiments.benchmarks.result import Figure, Limit, Result
from experiments.benchmarks.synthetic import (
    SyntheticSet,
    shards_for,
    synthetic_signals,
    write_photos,
    write_synthetic_set,
)
from experiments.benchmarks.threads import choose_threads
from experiments.benchmarks.timing import Spread, Timing, limit_time, shares, time_in_turn
from experiments.benchmarks.training import TrainBenchmark, measure_training
from experiments.benchmarks.unpacking import UnpackBenchmark, measure_unpacking
from experiments.peers.peer import Setting
from tests.support.paths import ROOT
from walloc_cdl.codec import load_codec
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import verify

ONCE = Timing(repeats=1, max_s=5.0)
FIGURE_FIELDS = {"name", "setting", "documented", "tried", "rate", "rates", "limit", "share_of_limit"}


def require_complete(result, names, limits):
    """Assert that table and JSON have every figure with its limit, and the machine."""
    report = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert report.keys() - {"parts"} == {"benchmark", "unit", "work", "machine", "limits", "figures", "absent"}
    assert [figure["name"] for figure in report["figures"]] == names
    assert [limit["name"] for limit in report["limits"]] == limits
    for figure in report["figures"]:
        assert figure.keys() >= FIGURE_FIELDS
        assert figure["documented"]
        assert figure["rate"]["low"] <= figure["rate"]["median"] <= figure["rate"]["high"]
        assert figure["share_of_limit"]["median"] > 0
    assert {"cpu", "cpu_count", "memory_bytes", "threads", "torch", "numpy", "load_average"} <= report["machine"].keys()
    headings, rows = result.table()
    assert {len(row) for row in rows} == {len(headings)}
    assert {row[0] for row in rows} == {*names, *(f"limit: {name}" for name in limits)}
    notes = "\n".join(result.notes())
    assert all(figure.documented in notes and figure.setting in notes for figure in result.figures)
    return report


def test_runs_take_turns_and_the_first_one_rotates():
    order = []
    runs = {name: lambda repeat, name=name: order.append((repeat, name)) or 5.0 for name in "abc"}
    seen = []
    rates = time_in_turn(runs, 2, lambda done, total: seen.append((done, total)))
    assert order == [(0, "a"), (0, "b"), (0, "c"), (1, "b"), (1, "c"), (1, "a")]
    assert [len(values) for values in rates.values()] == [2, 2, 2]
    assert seen[-1] == (6, 6)


def test_spread_and_shares():
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert shares([1.0, 4.0], [2.0, 4.0]) == Spread(0.75, 0.5, 1.0)


def test_a_run_ends_at_its_time_limit():
    assert list(limit_time(range(5), 100)) == [0, 1, 2, 3, 4]
    assert list(limit_time(range(5), -1)) == [0]


def test_the_fastest_setting_is_chosen():
    units = {"slow": 1.0, "fast": 1e9, "middle": 1e3}
    settings = [Setting(name, "here", count) for name, count in units.items()]
    chosen = choose_setting("peer", settings, lambda count: lambda repeat: count)
    assert chosen.setting.text == "fast"
    assert chosen.tried.keys() == units.keys()
    assert choose_setting("peer", settings[:1], lambda count: lambda repeat: count).tried == {}


def test_settings_out_of_range():
    for make in (
        lambda: Timing(repeats=0),
        lambda: Timing(max_s=0),
        lambda: ReadingConfig(batch_size=0),
        lambda: ReadingConfig(num_images=0),
        lambda: EncodeBenchmark(batch_size=0),
        lambda: PrepareBenchmark(repeats=0),
        lambda: TrainBenchmark(steps=0),
        lambda: choose_threads(0),
    ):
        with pytest.raises(CallError, match="it must be"):
            make()


def test_a_missing_folder_of_images_is_refused(tmp_path):
    with pytest.raises(CallError, match="is not a folder; give one with a subfolder of images for each class"):
        ReadingConfig(images=tmp_path / "nowhere")


@pytest.mark.parametrize(
    "synthetic",
    [
        SyntheticSet(200_000, (3, 16, 16), num_shards=3, with_synthesis=True),
        SyntheticSet(200_000, (3, 256)),
        SyntheticSet(200_000, (3, 16, 16), stride=4, companding="none", with_synthesis=True),
    ],
    ids=["codes", "sound", "pixels"],
)
def test_the_synthetic_data_set_is_valid(tmp_path, synthetic):
    write_synthetic_set(tmp_path / "set", synthetic)
    assert verify(tmp_path / "set", full=True).problems == []
    dataset = open_latents(tmp_path / "set")
    assert (len(dataset), len(dataset.manifest.shards)) == (200_000 // 768, synthetic.num_shards)
    if synthetic.with_synthesis:
        assert set(dataset.synthesis_bank) == set(range(1, synthetic.stride + 1))


def test_a_synthetic_data_set_has_at_least_one_sample():
    with pytest.raises(CallError, match="num_bytes is 5; it must be at least 12288"):
        SyntheticSet(5)


def test_the_number_of_shards_is_a_multiple_of_the_threads():
    assert [shards_for(num_bytes, 2) for num_bytes in (1, 600_000_000)] == [2, 6]


def test_synthetic_photos_have_the_bits_of_real_ones(tmp_path):
    assert write_photos(tmp_path / "a", num=4) == 4
    files = sorted((tmp_path / "a").rglob("*.jpg"))
    bits = 8 * sum(path.stat().st_size for path in files) / (len(files) * 375 * 500)
    assert 3.5 < bits < 6
    count = write_photos(tmp_path / "b", num_bytes=250_000)
    sizes = [path.stat().st_size for path in (tmp_path / "b").rglob("*.jpg")]
    assert (len(sizes), sum(sizes) >= 250_000, sum(sizes[1:]) < 300_000) == (count, True, True)


@pytest.mark.parametrize("name", ["rgb-16x", "stereo-5x"])
def test_synthetic_signals_suit_the_codec_and_differ(name):
    codec = load_codec(name)
    first, second = synthetic_signals(codec.kind, codec.source_channels, signal_shape(codec, 2), 2, seed=0)
    codes = codec.encode(first)
    assert 5 < codes.float().std() < 90  # like photos (6 to 14) or more; neither constant nor saturated
    assert not torch.equal(first, second)


def test_encode_cost():
    cost = EncodeCost.of(load_codec("rgb-16x"))
    assert cost.bytes == 3 + 12 / 64
    assert cost.operations == 3 * 2 * 3 * 4 + 36  # channels, axes, levels, 4 per sample; and the mix
    assert EncodeCost.of(load_codec("rgb").with_planes(96)).bytes == 3 + 96 / 8 / 64
    assert EncodeCost.of(load_codec("stereo-5x")).operations == 2 * 6 * 4 + 2 * 27


def test_encode(monkeypatch):
    monkeypatch.setattr("experiments.benchmarks.encoding.IMAGE_SIDE", 64)
    config = EncodeBenchmark(num_bytes=50_000, batch_size=2, threads=1)
    result = measure_encoding(config, ONCE, "torch")
    report = require_complete(result, ["walloc-cdl", "torch"], ["memory", "arithmetic"])
    assert (report["unit"], report["work"]["batches"], report["absent"]) == ("MP/s", 2, [])
    assert (report["work"]["device"], "device" in report["machine"]) == ("cpu", False)
    with pytest.raises(CallError, match="codec resize-rgb-16x has no linear WaLLoC encoder"):
        measure_encoding(EncodeBenchmark(codec="resize-rgb-16x"), ONCE, "")


def test_encode_to_rows_beside_byte_codes(monkeypatch):
    monkeypatch.setattr("experiments.benchmarks.encoding.IMAGE_SIDE", 64)
    config = EncodeBenchmark("rgb", 50_000, batch_size=2, threads=1, sample_bytes=100)
    result = measure_encoding(config, ONCE, "torch")
    report = require_complete(result, ["walloc-cdl", "rgb-16x", "torch"], ["memory", "arithmetic"])
    assert report["work"]["planes"] == 12
    assert {figure.name: figure.setting for figure in result.figures}["walloc-cdl"] == "codec.encode_rows, compiled"
    limits = {figure.name: figure.limits for figure in result.figures}
    assert limits["walloc-cdl"] == limits["torch"] != limits["rgb-16x"]
    with pytest.raises(CallError, match="9,999,999 bytes a sample; these latents take 8 to"):
        measure_encoding(EncodeBenchmark("rgb", sample_bytes=9_999_999), ONCE, "")
    with pytest.raises(CallError, match="100 bytes a sample of codes that are stored as bytes"):
        measure_encoding(EncodeBenchmark("rgb-16x", sample_bytes=100), ONCE, "")


def test_unpack(monkeypatch):
    monkeypatch.setattr("experiments.benchmarks.encoding.IMAGE_SIDE", 64)
    monkeypatch.setattr("experiments.benchmarks.unpacking.MODEL_SIDE", 32)
    result = measure_unpacking(UnpackBenchmark("rgb", 100, 50_000, 2, "resnet10t", 1), ONCE)
    report = require_complete(result, ["walloc-cdl", "torch", "step of resnet10t"], ["memory"])
    assert (report["unit"], report["work"]["batch"]) == ("samples/s", "2x96")
    with pytest.raises(CallError, match="codec gray is not for RGB images; choose one that is, such as rgb"):
        measure_unpacking(UnpackBenchmark("gray"), ONCE)
    with pytest.raises(CallError, match="sample_bytes is 0; it must be at least 1"):
        UnpackBenchmark(sample_bytes=0)


def test_encode_reports_the_path_that_it_took(monkeypatch):
    monkeypatch.setattr("experiments.benchmarks.encoding.IMAGE_SIDE", 64)
    monkeypatch.setattr("walloc_cdl.codec.compiled.CompiledEncoder.encode", lambda *arguments: None)
    (figure,) = measure_encoding(EncodeBenchmark(num_bytes=1, batch_size=1), ONCE, "").figures
    assert figure.setting == "codec.encode, plain torch, as there is no compiled path here"


@pytest.mark.parametrize(
    ("settings", "num_gpus", "message"),
    [
        ({"device": "cuda"}, 0, "device 'cuda' was requested, but torch finds no CUDA device; use cpu"),
        ({"device": "cuda:2"}, 2, "device 'cuda:2' was requested, but torch finds 2, counted from 0; use cuda:0"),
        ({"device": "cuda", "threads": 2}, 1, "threads is 2 on device cuda; it applies to the CPU only: omit it"),
        ({"device": "meta"}, 0, "device 'meta' cannot be benchmarked; use cpu, cuda or cuda:N"),
        ({"device": "gpu"}, 0, "device 'gpu' is not a torch device; use cpu, cuda or cuda:N"),
    ],
    ids=lambda part: " ".join(map(str, part.values())) if isinstance(part, dict) else "",
)
def test_devices_that_cannot_be_benchmarked(monkeypatch, settings, num_gpus, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    with pytest.raises(CallError, match=message):
        measure_encoding(EncodeBenchmark(**settings), ONCE, "")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_encode_on_a_gpu():
    config = EncodeBenchmark(num_bytes=50_000_000, device="cuda")
    report = require_complete(
        measure_encoding(config, ONCE, "torch"), ["walloc-cdl", "torch"], ["memory", "arithmetic"]
    )
    assert report["machine"]["device"] == torch.cuda.get_device_name()


def test_limits_count_their_work(monkeypatch):
    monkeypatch.setitem(WORK, "cpu", LimitWork(copy_bytes=10, copies=3, matrix_side=4, products=5))
    allowed = torch.backends.cuda.matmul.allow_tf32
    for dtype in (torch.float32, torch.float16):
        assert make_matmul_run(dtype=dtype)(0) == 5 * 4**3
    assert make_copy_run()(0) == 2 * 3 * 10
    assert torch.backends.cuda.matmul.allow_tf32 == allowed


def test_load_leaves_no_files_and_reports_waiting(tmp_path):
    config = ReadingConfig(2_000_000, batch_size=64, num_images=12, threads=1)
    phases = []
    result = measure_loading(
        config, ONCE, "imagefolder", folder=tmp_path, on_phase=lambda phase, done, total: phases.append(phase)
    )
    names = ["walloc-cdl mmap", "walloc-cdl ram", "imagefolder"]
    report = require_complete(result, names, ["index_select", "index_select, 1 thread", "row copies"])
    assert report["work"]["samples"] == 2_000_000 // (12 * 32 * 32)
    assert all(0 < figure["waiting_share"]["median"] < 1 for figure in report["figures"])
    assert len(report["figures"][2]["tried"]) == 2
    *ours, peer = report["figures"]
    assert peer["waiting_setting"] in peer["tried"]
    for figure in ours:  # with one thread nothing is prefetched, except for the consumer that sleeps
        assert "prefetch=0" in figure["setting"]
        assert "prefetch=" in figure["waiting_setting"]
    assert list(dict.fromkeys(phases)) == [
        "writing synthetic data",
        "trying imagefolder",
        "reading",
        "feeding a consumer",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_consumer_of_ready_batches_hardly_waits():
    batches = [(torch.zeros(1), torch.zeros(256))] * 3
    assert 0 <= waiting_share(batches, 100) < 1
    assert [count for count, _ in feed_consumer(batches, 100)] == [256] * 3


def test_train(tmp_path):
    reading = ReadingConfig(1_000_000, batch_size=8, num_images=16, threads=1)
    result = measure_training(TrainBenchmark("test_resnet", reading, steps=2), ONCE, "imagefolder", folder=tmp_path)
    report = require_complete(result, ["walloc-cdl mmap", "walloc-cdl ram", "imagefolder"], ["codes", "pixels"])
    by_name = {figure["name"]: figure["limit"] for figure in report["figures"]}
    limits = {limit["name"]: limit["rate"]["median"] for limit in report["limits"]}
    assert by_name["walloc-cdl ram"] == limits["codes"]
    assert by_name["imagefolder"] == limits["pixels"]
    parts = report["parts"]
    assert set(parts["shares"]) == {"loader", "unpacking", "synthesis", "augmentation light"}
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in parts["seconds"].values())
    assert parts["overhead"] == pytest.approx(sum(parts["shares"].values()), rel=0.5)
    assert (parts["grid"], parts["limit"]) == (128, 0.15)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_model():
    with pytest.raises(CallError, match="unknown model 'resnt18'"):
        measure_training(TrainBenchmark("resnt18"), ONCE, "")


@pytest.mark.parametrize(("workers", "peers", "repeats"), [(0, ["imagefolder"], 2), (1, [], 1)])
def test_prepare_of_synthetic_photos(tmp_path, workers, peers, repeats):
    config = PrepareBenchmark(num_bytes=300_000, size=64, workers=workers, repeats=repeats, decoder="pil-scaled")
    result = measure_preparation(config, ",".join(peers), folder=tmp_path)
    started = ["walloc-cdl, started"] if workers else []
    report = require_complete(result, ["walloc-cdl", *started, *peers], ["decoding"])
    if started:  # the same runs in less time
        whole, after = (figure["rates"] for figure in report["figures"])
        assert all(rate > slower for rate, slower in zip(after, whole, strict=True))
    assert report["work"]["decoder"] == "pil-scaled"
    assert (report["work"]["workers"], len(report["figures"][0]["rates"])) == (workers, repeats)
    assert report["absent"] == []
    assert list(tmp_path.iterdir()) == []


def test_prepare_is_compared_with_pillow_for_equal_settings(tmp_path):
    result = measure_preparation(PrepareBenchmark(num_bytes=100_000, workers=0, repeats=1), "", folder=tmp_path)
    require_complete(result, ["walloc-cdl", "pillow alone"], ["decoding"])


def test_prepare_of_a_source_other_than_a_folder_of_images(tmp_path):
    np.save(tmp_path / "cubes.npy", np.zeros((4, 3, 16, 16), np.uint8))
    config = PrepareBenchmark(f"npy:{tmp_path / 'cubes.npy'}", codec="resize-rgb-4x", workers=0, repeats=1)
    report = require_complete(measure_preparation(config, folder=tmp_path), ["walloc-cdl"], ["decoding"])
    assert report["absent"] == [{"name": "imagefolder", "reason": "it reads folders of images only"}]


def test_decoding_workers_do_not_import_torch():
    code = "import sys, experiments.benchmarks.decoding; print([m for m in ('torch', 'timm') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == "[]"


def result_of(rates, limits, tried):
    figure = Figure("ours", "fast", "README.md", rates, limits, tried)
    return Result("load", "samples/s", {}, {}, [Limit("copies", "plain", limits)], [figure], [])


def test_a_share_above_the_limit_is_explained(monkeypatch):
    monkeypatch.setattr("experiments.benchmarks.result.machine_text", lambda machine: "this one")
    below, above = result_of([9.0, 12.0, 8.0], [10.0, 10.0, 10.0], {}), result_of([9.0, 11.0, 11.0], [10.0] * 3, {})
    assert not any("above 100 %" in note for note in below.notes())
    (note,) = [note for note in above.notes() if "above 100 %" in note]
    assert note.startswith("shares above 100 %: a limit is measured too, on work that is simpler but not the same")


def test_a_trial_is_not_set_beside_the_figure(monkeypatch):
    """Rates of a short trial may be higher than those of the long runs, also for the slower setting."""
    monkeypatch.setattr("experiments.benchmarks.result.machine_text", lambda machine: "this one")
    notes = result_of([100.0], [200.0], {"fast": 160.0, "slow": 120.0}).notes()
    (note,) = [note for note in notes if note.startswith("ours: ")]
    assert note == "ours: fast (README.md); other settings, of its rate in the same trial: slow: 75%"
