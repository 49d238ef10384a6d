"""The parts of the GPU measurement that need no GPU: refusal, counts, bounds, table and peer."""

import json
from types import SimpleNamespace

import pytest
import torch

from experiments import gpu_speed
from experiments.benchmarks import limits
from walloc_cdl.codec import load_codec

MACHINE = {
    "device": "GPU",
    "compute_capability": "9.0",
    "multiprocessors": 132,
    "torch": "2",
    "cuda": "13",
    "copy_bytes_per_s": 3e12,
    "float16_multiply_adds_per_s": 4e14,
    "float32_multiply_adds_per_s": 2.5e13,
}


def once(work, repeats):
    """Replaces `time_on_gpu`."""
    work()
    return 1.0


def test_a_missing_gpu_is_reported_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_speed.main([]) == 2
    error = "gpu_speed: torch finds no CUDA device here; run this on a machine with a GPU\n"
    assert capsys.readouterr().err == error


def test_a_gpu_that_is_too_old_is_named(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    assert gpu_speed.main([]) == 2
    assert (
        "Tesla T4 has compute capability 7.5; the kernels need an NVIDIA GPU of at least 8.0" in capsys.readouterr().err
    )


def test_multiply_adds_of_rgb_to_12_channels():
    counts = gpu_speed.multiply_adds(channels=3, levels=3, latents=12)
    assert counts["taps"] == 3 * 2 * 57 + 36
    assert counts["lifting"] == 3 * 24 + 36
    assert counts["window"] == 36 * 57**2 / 64
    # A window of 128 × 128 samples is reduced to 64 rows in two parts, then along rows in three, then mixed in three.
    tile = 2 * 64 * 128 * 128 + 3 * 64 * 64 * 128 + 3 * 64 * 64 * 16
    assert counts["products"] == 3 * tile / 64**2
    assert counts["banded"] == 3 * (64 * 128 * 128 + 64 * 64 * 128) / 64**2 + 36


def test_bounds_are_those_of_the_machine():
    bounds = gpu_speed.encoding_bounds(MACHINE, channels=3, levels=3, latents=12)
    assert bounds["memory"] == pytest.approx((3 + 12 / 64) / 3e12)
    assert bounds["float16_products"] == pytest.approx(2832 / 4e14)
    assert bounds["float32_lifting"] == pytest.approx(108 / 2.5e13)


def test_measurements_with_a_fake_clock(monkeypatch, capsys, tmp_path):
    """Everything runs on the CPU: the work runs once, and takes one second by the fake clock."""
    monkeypatch.setattr(gpu_speed, "require_gpu", lambda: torch.device("cpu"))
    monkeypatch.setattr(gpu_speed, "measure_machine", lambda device, repeats: MACHINE)
    monkeypatch.setattr(gpu_speed, "time_on_gpu", once)
    monkeypatch.setattr(gpu_speed, "peer_encoder", lambda codec: None)
    monkeypatch.setattr(gpu_speed, "RESIDENT_BYTES", 10_000_000)
    assert gpu_speed.main(["--batch", "2", "--side", "64", "--json", str(tmp_path / "gpu.json")]) == 0
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert result["encode"]["shape"] == [2, 3, 64, 64]
    assert result["encode"]["encode_pixels_per_s"] == 2 * 64 * 64
    assert result["encode"]["largest_difference"] <= 1
    assert result["encode"]["walloc_pixels_per_s"] is None
    assert result["epoch"]["num_samples"] == 10_000_000 // (12 * 32 * 32)
    assert result["epoch"]["one_pass_bytes_per_s"] == 3 * result["epoch"]["num_samples"] * 12 * 32 * 32
    table = capsys.readouterr().out
    assert "GPU, compute capability 9.0" in table
    assert "not importable" in table


def test_machine_description_with_a_fake_clock(monkeypatch):
    """Copies and products run on the CPU, and each takes one second by the fake clock."""
    monkeypatch.setitem(limits.WORK, "cpu", limits.LimitWork(copy_bytes=10, copies=3, matrix_side=4, products=5))
    monkeypatch.setattr(gpu_speed, "time_on_gpu", once)
    gpu = SimpleNamespace(name="GPU", major=9, minor=0, multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    machine = gpu_speed.measure_machine(torch.device("cpu"), 1)
    assert machine.keys() == {*MACHINE, "host"}
    assert machine["copy_bytes_per_s"] == 2 * 3 * 10
    assert machine["float16_multiply_adds_per_s"] == machine["float32_multiply_adds_per_s"] == 5 * 4**3


def test_only_codecs_with_a_linear_encoder_of_images(monkeypatch, capsys):
    monkeypatch.setattr(gpu_speed, "require_gpu", lambda: torch.device("cpu"))
    assert gpu_speed.main(["--codec", "mono-16x"]) == 2
    assert "mono-16x has no linear encoder of images" in capsys.readouterr().err


@pytest.mark.slow
def test_the_peer_computes_the_same_codes():
    pytest.importorskip("walloc")
    codec = load_codec("rgb-16x")
    pixels = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = gpu_speed.peer_encoder(codec)(pixels)
    assert (found.int() - codec.encode(pixels).int()).abs().max() <= 1
    assert (found != codec.encode(pixels)).float().mean() < 1e-2
