"""Measures the kernels on this GPU, and compares them with PyPI `walloc`, plain torch and the limits of the hardware.

    python -m experiments.gpu_speed --json gpu.json

Encoding is measured in pixels per second against two lower bounds of its time: reading each pixel and writing each
code once at the speed of a copy, and the kernel's products at the speed of torch's float16 matrix product.
Epochs of a split on the device are measured in bytes per second against the copy.
docs/performance-gpu.md has the reasoning.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.benchmarks.devices import is_compiled
from experiments.benchmarks.limits import make_copy_run, make_matmul_run
from experiments.benchmarks.machine import describe_machine
from experiments.benchmarks.timing import Run
from experiments.peers.walloc import encode_settings
from walloc_cdl.codec import WallocCodec2D, load_codec
from walloc_cdl.errors import CallError, CdlError, terminal_text
from walloc_cdl.kernels.gpu.encode import runs_kernels
from walloc_cdl.kernels.gpu.lookup import lookup_codes, plain_lookup
from walloc_cdl.kernels.gpu.operators import TILE_SAMPLES, pitch, window_blocks

RESIDENT_BYTES = 2**31
"""Bytes of the codes of an epoch, far more than any cache holds."""


def measure_gpu(codec_name: str = "rgb-16x", *, batch: int = 256, side: int = 256, repeats: int = 20) -> dict[str, Any]:
    """Time the encoding of `batch` images of `side`² pixels, and an epoch over codes on the GPU.

    Raises `CallError` if there is no GPU that can run the kernels, and for codecs other than `WallocCodec2D`
    with a light encoder.
    """
    device = require_gpu()
    codec = load_codec(codec_name)
    if not isinstance(codec, WallocCodec2D) or codec.config.encoder != "light":
        raise CallError(f"codec {codec_name} has no linear encoder of images; choose one that has, such as rgb-16x")
    codec = codec.to(device)
    machine = measure_machine(device, repeats)
    return {
        "machine": machine,
        "codec": codec_name,
        "encode": measure_encoding(codec, machine, batch=batch, side=side, repeats=repeats),
        "epoch": measure_epoch(codec, machine, repeats=repeats),
    }


def require_gpu() -> torch.device:
    """Returns the current CUDA device; raises `CallError` if there is none, or it cannot run the kernels."""
    if not torch.cuda.is_available():
        raise CallError("torch finds no CUDA device here; run this on a machine with a GPU")
    device = torch.device("cuda", torch.cuda.current_device())
    if not runs_kernels(device):
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
        name = torch.cuda.get_device_name(device)
        raise CallError(
            f"{name} has compute capability {capability}; the kernels need an NVIDIA GPU of at least 8.0, and triton"
        )
    return device


def measure_machine(device: torch.device, repeats: int) -> dict[str, Any]:
    """Describe the GPU, and measure its copies (bytes/s, read and written) and matrix products (multiply-adds/s)."""
    properties = torch.cuda.get_device_properties(device)
    half, single = (make_matmul_run(device, dtype) for dtype in (torch.float16, torch.float32))
    return {
        "device": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "host": describe_machine(("triton", "walloc")),
        "copy_bytes_per_s": rate_on_gpu(make_copy_run(device), repeats),
        "float16_multiply_adds_per_s": rate_on_gpu(half, repeats),
        "float32_multiply_adds_per_s": rate_on_gpu(single, repeats),
    }


def measure_encoding(
    codec: WallocCodec2D, machine: dict[str, Any], *, batch: int, side: int, repeats: int
) -> dict[str, Any]:
    """Measure pixels per second of `encode`, plain torch and PyPI `walloc` (None if it cannot be imported)."""
    config, device = codec.config, next(codec.parameters()).device
    shape = (batch, config.channels, side, side)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    if not is_compiled(codec, pixels):
        raise CallError(
            f"codec {codec.name} has no compiled path on {machine['device']}, so there is nothing to compare; "
            "choose another codec"
        )

    def plain() -> Tensor:
        return codec._quantize(codec.latents(pixels))

    with torch.no_grad():
        codes, expected = codec.encode(pixels), plain()
        differences = (codes.int() - expected.int()).abs()
        num_pixels = batch * side * side
        peer, slow_repeats = peer_encoder(codec), max(3, repeats // 4)
        rates = {
            "encode": num_pixels / time_on_gpu(lambda: codec.encode(pixels), repeats),
            "plain_torch": num_pixels / time_on_gpu(plain, slow_repeats),
            "walloc": num_pixels / time_on_gpu(lambda: peer(pixels), slow_repeats) if peer else None,
        }
    bound_s = encoding_bounds(machine, channels=config.channels, levels=config.levels, latents=config.latent_channels)
    bound = 1 / max(bound_s["memory"], bound_s["float16_products"])
    return {
        "shape": list(shape),
        **{f"{name}_pixels_per_s": rate for name, rate in rates.items()},
        "bounds_pixels_per_s": {name: 1 / seconds for name, seconds in bound_s.items()},
        "share_of_bound": rates["encode"] / bound,
        "share_of_memory_bound": rates["encode"] * bound_s["memory"],
        "speedup_over_walloc": rates["walloc"] and rates["encode"] / rates["walloc"],
        "codes_that_differ_from_plain": differences.ne(0).double().mean().item(),
        "largest_difference": int(differences.max()),
    }


def peer_encoder(codec: WallocCodec2D) -> Callable[[Tensor], Tensor] | None:
    """Returns PyPI `walloc`'s encoder, from pixels to stored codes, with the codec's weights; None if it is absent."""
    try:
        return encode_settings(codec)[0].work
    except ImportError:
        return None


def measure_epoch(codec: WallocCodec2D, machine: dict[str, Any], *, repeats: int, batch: int = 1024) -> dict[str, Any]:
    """Measure a shuffled epoch of codes on the device, converted to bfloat16 model input: bytes/s, read and written."""
    device, latents = next(codec.parameters()).device, codec.config.latent_channels
    num_samples = max(1, RESIDENT_BYTES // (latents * 32 * 32))
    codes = torch.randint(1, 256, (num_samples, latents, 32, 32), dtype=torch.uint8, device=device)
    table = torch.randn(latents, 256, device=device)
    batches = torch.randperm(num_samples, device=device).split(batch)
    methods = {
        "one_pass": lambda rows: lookup_codes(codes, table, rows=rows, dtype=torch.bfloat16),
        "plain_torch": lambda rows: plain_lookup(codes, table, rows, torch.bfloat16),
    }
    num_bytes = 3 * codes.numel()
    rates = {}
    for name, read in methods.items():
        rates[name] = num_bytes / time_on_gpu(lambda read=read: [read(rows) for rows in batches], max(3, repeats // 4))
    return {
        "num_samples": num_samples,
        "batch": batch,
        **{f"{name}_bytes_per_s": rate for name, rate in rates.items()},
        "samples_per_s": rates["one_pass"] / (3 * latents * 32 * 32),
        "share_of_copy": rates["one_pass"] / machine["copy_bytes_per_s"],
    }


def multiply_adds(*, channels: int, levels: int, latents: int) -> dict[str, float]:
    """Returns the number of multiply-adds per pixel by the method of computation.

    `products` are those of float16 in the kernel; `banded` the same products in float32, undivided; `taps` the
    filters without the zeros of a block; `lifting` counts additions as multiply-adds; `window` is the whole encoder as
    one filter for each latent.
    """
    blocks, tile = window_blocks(levels), TILE_SAMPLES
    taps = 8 * (2**levels - 1) + 1
    mix = channels * latents
    return {
        "products": channels * (2 * blocks**2 * tile + 3 * blocks * tile + 3 * pitch(latents) * max(1, 16 / 4**levels)),
        "banded": channels * (blocks**2 * tile + blocks * tile) + mix,
        "taps": channels * 2 * taps + mix,
        "lifting": channels * 8 * levels + mix,
        "window": channels * latents * taps**2 / 4**levels,
    }


def encoding_bounds(machine: dict[str, Any], *, channels: int, levels: int, latents: int) -> dict[str, float]:
    """Returns lower bounds in seconds per pixel, by memory, the kernel's products, and hypothetical float32 lifting."""
    counts = multiply_adds(channels=channels, levels=levels, latents=latents)
    return {
        "memory": (channels + latents / 4**levels) / machine["copy_bytes_per_s"],
        "float16_products": counts["products"] / machine["float16_multiply_adds_per_s"],
        "float32_lifting": counts["lifting"] / machine["float32_multiply_adds_per_s"],
    }


def rate_on_gpu(run: Run, repeats: int) -> float:
    """Returns units per second of a run, from the median of its times on the device."""
    units = run(0)
    return units / time_on_gpu(lambda: run(0), repeats)


def time_on_gpu(work: Callable[[], object], repeats: int) -> float:
    """Returns the median seconds of `work` by the device's clock, after three warm-up runs."""
    for _ in range(3):
        work()
    seconds = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1000)
    return statistics.median(seconds)


def as_table(result: dict[str, Any]) -> str:
    """Format the result of `measure_gpu` as a table."""
    machine, encode, epoch = result["machine"], result["encode"], result["epoch"]
    bounds, walloc = encode["bounds_pixels_per_s"], encode["walloc_pixels_per_s"]

    def pixels(rate: float | None) -> str:
        return "not importable" if rate is None else f"{rate / 1e9:.2f} Gpixel/s"

    rows = [
        ("copy, read and written", f"{machine['copy_bytes_per_s'] / 1e9:.0f} GB/s"),
        ("float16 products", f"{machine['float16_multiply_adds_per_s'] / 1e12:.1f} T multiply-adds/s"),
        ("float32 products", f"{machine['float32_multiply_adds_per_s'] / 1e12:.1f} T multiply-adds/s"),
        (f"encode {result['codec']}", " × ".join(map(str, encode["shape"]))),
        ("  this package", pixels(encode["encode_pixels_per_s"])),
        ("  plain torch", pixels(encode["plain_torch_pixels_per_s"])),
        ("  PyPI walloc", pixels(walloc)),
        ("  bound by memory", pixels(bounds["memory"])),
        ("  bound by the kernel's products", pixels(bounds["float16_products"])),
        ("  bound of lifting in float32", pixels(bounds["float32_lifting"])),
        ("  fraction of the bound", f"{encode['share_of_bound']:.1%}"),
        ("  codes that differ from plain torch", f"{encode['codes_that_differ_from_plain']:.1e}"),
        ("  by at most", str(encode["largest_difference"])),
        ("epoch on the device", f"{epoch['one_pass_bytes_per_s'] / 1e9:.0f} GB/s"),
        ("  plain torch", f"{epoch['plain_torch_bytes_per_s'] / 1e9:.0f} GB/s"),
        ("  fraction of copy", f"{epoch['share_of_copy']:.1%}"),
        ("  samples", f"{epoch['samples_per_s'] / 1e6:.1f} M/s"),
    ]
    title = f"{machine['device']}, compute capability {machine['compute_capability']}, torch {machine['torch']}"
    return "\n".join([title, *(f"{name:38}{value}" for name, value in rows)])


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table and write the JSON; without a GPU, print one line and return 2."""
    parser = argparse.ArgumentParser(prog="python -m experiments.gpu_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--codec", default="rgb-16x")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args(arguments)
    try:
        result = measure_gpu(options.codec, batch=options.batch, side=options.side, repeats=options.repeats)
    except CdlError as error:
        print(terminal_text(f"gpu_speed: {error}"), file=sys.stderr)
        return error.exit_code
    print(as_table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
