"""`cdl bench encode`: encodes batches of signals to stored codes, by `codec.encode` and by peers with the same weights.

Codecs with bit planes encode to packed rows, and `rgb-16x`, which stores bytes, is measured beside those for RGB.

The limits are the rates of memory copies and of float32 multiply-adds, divided by the least amount of each that
encoding needs, on the CPU or a GPU. For GPUs, `experiments.gpu_speed` also compares the kernel with its own products.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from experiments.benchmarks.autotune import Candidate, choose_peer_settings, choose_setting
from experiments.benchmarks.devices import is_compiled, open_benchmark_device, synchronize
from experiments.benchmarks.limits import EncodeCost, make_copy_run, make_matmul_run
from experiments.benchmarks.machine import describe_machine
from experiments.benchmarks.result import Figure, Limit, Result
from experiments.benchmarks.synthetic import DEFAULT_BYTES, synthetic_signals
from experiments.benchmarks.threads import choose_threads
from experiments.benchmarks.timing import OnPhase, Run, Timing, limit_time, silent, time_in_turn
from experiments.peers.catalog import choose_peers
from experiments.peers.peer import Encode, Setting
from walloc_cdl.codec import Codec, WallocCodec, load_codec
from walloc_cdl.errors import CallError
from walloc_cdl.planes.rows import planes_for_bytes
from walloc_cdl.threads import torch_threads

IMAGE_SIDE = 256
CLIP_SAMPLES = 2**17
"""About three seconds."""
THIS_PACKAGE = "walloc-cdl"
BYTE_CODEC = "rgb-16x"
"""The codec of byte codes with which codecs of bit planes for RGB are compared."""


@dataclass(frozen=True)
class EncodeBenchmark:
    """Settings of `measure_encoding`."""

    codec: str = "rgb-16x"
    num_bytes: int = DEFAULT_BYTES
    """Bytes of the signals, uint8 or int16, which are all in memory; no two batches are equal."""
    batch_size: int = 32
    threads: int | None = None
    """CPU threads; by default one for each processor."""
    sample_bytes: int | None = None
    """Bytes of a row of bit planes, of which as many are encoded as fit; by default all. The codec must have some."""
    device: str = "cpu"
    """The device of signals, codecs and limits: `cpu`, `cuda` or `cuda:N`."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_bytes"):
            if getattr(self, name) < 1:
                raise CallError(f"{name} is {getattr(self, name)}; it must be at least 1")


def measure_encoding(
    config: EncodeBenchmark, timing: Timing, against: str | None = None, *, on_phase: OnPhase = silent
) -> Result:
    """Time all candidates on synthetic photos of 256 pixels, or clips of 2^17 samples, on the device.

    `against` names the peers, as `cdl bench encode --against` does. The unit is a million pixels, or audio
    frames, per second. Raises `CallError` for a codec without a linear WaLLoC encoder, whose limits are unknown, and
    for a device that is absent.
    """
    device = open_benchmark_device(config.device)
    if device.type != "cpu" and config.threads is not None:
        raise CallError(f"threads is {config.threads} on device {device}; it applies to the CPU only: omit it")
    peers, absent = choose_peers("encode", against)
    codec = load_codec(config.codec)
    if config.sample_bytes is not None:
        grid = codec.latent_shape(signal_shape(codec, 1)[1:])[1:]
        codec = codec.with_planes(planes_for_bytes(codec.spec, grid, config.sample_bytes))
    if not isinstance(codec, WallocCodec) or codec.config.encoder != "light":
        raise CallError(
            f"codec {codec.name} has no linear WaLLoC encoder; choose one that has, such as rgb-16x or stereo-5x"
        )
    threads = choose_threads(config.threads)
    shape = signal_shape(codec, config.batch_size)
    batch_bytes = math.prod(shape) * (1 if codec.kind == "image" else 2)
    num_batches = max(1, round(config.num_bytes / batch_bytes))
    with torch_threads(threads):
        packages = tuple(peer.package for peer in peers if peer.package)
        machine = describe_machine((*packages, "triton") if device.type == "cuda" else packages, device)
        on_phase("generating signals", 0, 0)
        synthetic = synthetic_signals(codec.kind, codec.source_channels, shape, num_batches, config.seed)
        batches = [signal.to(device) for signal in synthetic]
        codec = codec.to(device)
        trial = _run_over(batches[:2], timing.max_s)
        path = "compiled" if is_compiled(codec, batches[0]) else "plain torch, as there is no compiled path here"
        work = ("codec.encode", codec.encode) if codec.planes is None else ("codec.encode_rows", codec.encode_rows)
        setting = Setting(f"{work[0]}, {path}", "README.md", work[1])
        candidates = [choose_setting(THIS_PACKAGE, [setting], trial)]
        costs = {}
        if codec.planes is not None and (codec.kind, codec.source_channels) == ("image", 3):
            byte_codec = load_codec(BYTE_CODEC).to(device)
            costs[BYTE_CODEC] = EncodeCost.of(byte_codec)
            bytes_setting = Setting("its codec.encode, a byte for each code", "docs/codecs.md", byte_codec.encode)
            candidates.append(choose_setting(BYTE_CODEC, [bytes_setting], trial))
        others, failed = choose_peer_settings(peers, lambda peer: peer.encode_settings(codec), [trial], on_phase)
        candidates += [each for (each,) in others]
        cost = EncodeCost.of(codec)
        runs: dict[str, Run] = {"memory": make_copy_run(device), "arithmetic": make_matmul_run(device)}
        runs |= {each.name: _run_over(batches, timing.max_s)(each.setting.work) for each in candidates}
        for name in ("memory", "arithmetic"):
            runs[name](0)
        rates = time_in_turn(runs, timing.repeats, partial(on_phase, "encoding"))
    limits = _limits(cost, rates, "pixel" if codec.kind == "image" else "frame", device)
    return Result(
        benchmark="encode",
        unit="MP/s" if codec.kind == "image" else "million frames/s",
        work={
            "codec": codec.name,
            **({} if codec.planes is None else {"planes": len(codec.planes)}),
            "device": str(device),
            "batch": "x".join(map(str, shape)),
            "batches": num_batches,
            "bytes": num_batches * batch_bytes,
            "repeats": timing.repeats,
            "seconds_at_most": timing.max_s,
        },
        machine=machine,
        limits=limits,
        figures=[_figure(each, rates[each.name], _lowest(costs.get(each.name, cost), rates)) for each in candidates],
        absent=[*absent, *failed],
    )


def signal_shape(codec: Codec, batch_size: int) -> tuple[int, ...]:
    """Returns the shape of a batch: (B, C, 256, 256), or (B, C, 2^17) for audio."""
    sides = (IMAGE_SIDE, IMAGE_SIDE) if codec.kind == "image" else (CLIP_SAMPLES,)
    return (batch_size, codec.source_channels, *sides)


def _run_over(batches: Sequence[torch.Tensor], max_s: float) -> Callable[[Encode], Run]:
    """Returns a function that makes runs over all batches, which count millions of pixels or frames.

    A run starts no further batch after `max_s` seconds.
    """

    def make_run(encode: Encode) -> Run:
        def run(repeat: int) -> float:
            done = 0
            for signal in limit_time(batches, max_s):
                encode(signal)
                done += signal.numel() // signal.shape[1]
            synchronize(batches[0].device)
            return done / 1e6

        return run

    return make_run


def _limits(cost: EncodeCost, rates: dict[str, list[float]], item: str, device: torch.device) -> list[Limit]:
    memory, arithmetic = _bounds(cost, rates)
    copied, computed = max(rates["memory"]) / 1e9, max(rates["arithmetic"]) / 1e9
    gpu_note = "; the tensor cores, which compiled encoders use, are not bound by it" if device.type == "cuda" else ""
    return [
        Limit(
            "memory",
            f"{cost.bytes:.2f} bytes per {item}, read or written once; copies move up to {copied:.3g} GB/s",
            memory,
        ),
        Limit(
            "arithmetic",
            f"{cost.operations:.0f} float32 operations per {item} by lifting; "
            f"matrix products reach up to {computed:.3g} billion multiply-adds per second{gpu_note}",
            arithmetic,
        ),
    ]


def _bounds(cost: EncodeCost, rates: dict[str, list[float]]) -> tuple[list[float], list[float]]:
    """Returns what memory and arithmetic allow, in each repeat."""
    return (
        [rate / cost.bytes / 1e6 for rate in rates["memory"]],
        [rate / cost.operations / 1e6 for rate in rates["arithmetic"]],
    )


def _lowest(cost: EncodeCost, rates: dict[str, list[float]]) -> list[float]:
    return [min(both) for both in zip(*_bounds(cost, rates), strict=True)]


def _figure(each: Candidate[Encode], rates: Sequence[float], limits: Sequence[float]) -> Figure:
    return Figure(each.name, each.setting.text, each.setting.documented, rates, limits, each.tried)
