"""`cdl bench encode`: batches of signals to stored codes, by `codec.encode` and by others with the same weights.

The limits are the memory's copies and the cores' multiply-adds in float32, for what encoding takes of both at the
least, on the CPU or a GPU. There `experiments.gpu_speed` holds the kernel against its own products as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from experiments.benchmarks.autotune import Candidate, choose_peer_settings, choose_setting
from experiments.benchmarks.devices import finish, is_compiled, open_measured
from experiments.benchmarks.limits import EncodeCost, copying, multiplying
from experiments.benchmarks.machine import describe_machine
from experiments.benchmarks.result import Figure, Limit, Result
from experiments.benchmarks.synthetic import DEFAULT_BYTES, synthetic_signals
from experiments.benchmarks.threads import choose_threads, torch_threads
from experiments.benchmarks.timing import OnPhase, Run, Timing, silent, time_in_turn, until
from experiments.peers.catalog import choose_peers
from experiments.peers.peer import Encode, Setting
from walloc_cdl.codec import Codec, WallocCodec, load_codec
from walloc_cdl.errors import CallError

IMAGE_SIDE = 256
CLIP_SAMPLES = 2**17
"""About three seconds."""
OURS = "walloc-cdl"


@dataclass(frozen=True)
class EncodeBenchmark:
    """Settings of `measure_encoding`."""

    codec: str = "rgb-16x"
    num_bytes: int = DEFAULT_BYTES
    """Of signals, uint8 or int16; all are in the memory, no two batches the same."""
    batch_size: int = 32
    threads: int | None = None
    """One for each processor by default; of the CPU."""
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`: where signals, codecs and limits are."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_bytes"):
            if getattr(self, name) < 1:
                raise CallError(f"{name} is {getattr(self, name)}; it must be at least 1")


def measure_encoding(
    config: EncodeBenchmark, timing: Timing, against: str | None = None, *, on_phase: OnPhase = silent
) -> Result:
    """Time all ways on made-up photos of 256 pixels, or clips of 2^17 samples, that lie on the device.

    `against` names the peers, as `cdl bench encode --against` does. The unit is a million pixels, or frames of
    sound, a second. Raises `CallError` for a codec without a linear WaLLoC encoder, of which the limits are known, and
    for a device that is not here.
    """
    device = open_measured(config.device)
    if device.type != "cpu" and config.threads is not None:
        raise CallError(f"threads is {config.threads} on device {device}; they are the CPU's, so leave them out")
    peers, absent = choose_peers("encode", against)
    codec = load_codec(config.codec)
    if not isinstance(codec, WallocCodec) or codec.config.encoder != "light":
        raise CallError(f"codec {codec.name} has no linear WaLLoC encoder; name one that has, as rgb-16x or stereo-5x")
    threads = choose_threads(config.threads)
    shape = signal_shape(codec, config.batch_size)
    batch_bytes = math.prod(shape) * (1 if codec.kind == "image" else 2)
    num_batches = max(1, round(config.num_bytes / batch_bytes))
    with torch_threads(threads):
        packages = tuple(peer.package for peer in peers if peer.package)
        machine = describe_machine((*packages, "triton") if device.type == "cuda" else packages, device)
        on_phase("making up signals", 0, 0)
        synthetic = synthetic_signals(codec.kind, codec.source_channels, shape, num_batches, config.seed)
        batches = [signal.to(device) for signal in synthetic]
        codec = codec.to(device)
        trial = _run_over(batches[:2], timing.max_s)
        way = "compiled" if is_compiled(codec, batches[0]) else "plain torch, as there is no compiled path here"
        ours = Setting(f"codec.encode, {way}", "README.md", codec.encode)
        candidates = [choose_setting(OURS, [ours], trial)]
        others, failed = choose_peer_settings(peers, lambda peer: peer.encode_settings(codec), [trial], on_phase)
        candidates += [each for (each,) in others]
        cost = EncodeCost.of(codec)
        runs: dict[str, Run] = {"memory": copying(device), "arithmetic": multiplying(device)}
        runs |= {each.name: _run_over(batches, timing.max_s)(each.setting.work) for each in candidates}
        for name in ("memory", "arithmetic"):
            runs[name](0)
        rates = time_in_turn(runs, timing.repeats, partial(on_phase, "encoding"))
    limits = _limits(cost, rates, "pixel" if codec.kind == "image" else "frame", device)
    lowest = [min(both) for both in zip(*(limit.rates for limit in limits), strict=True)]
    return Result(
        benchmark="encode",
        unit="MP/s" if codec.kind == "image" else "million frames/s",
        work={
            "codec": codec.name,
            "device": str(device),
            "batch": "x".join(map(str, shape)),
            "batches": num_batches,
            "bytes": num_batches * batch_bytes,
            "repeats": timing.repeats,
            "seconds_at_most": timing.max_s,
        },
        machine=machine,
        limits=limits,
        figures=[_figure(each, rates[each.name], lowest) for each in candidates],
        absent=[*absent, *failed],
    )


def signal_shape(codec: Codec, batch_size: int) -> tuple[int, ...]:
    """Of a batch: (B, C, 256, 256), or (B, C, 2^17) of sound."""
    sides = (IMAGE_SIDE, IMAGE_SIDE) if codec.kind == "image" else (CLIP_SAMPLES,)
    return (batch_size, codec.source_channels, *sides)


def _run_over(batches: Sequence[torch.Tensor], max_s: float) -> Callable[[Encode], Run]:
    """Encodes all batches and counts millions of pixels or frames; after so many seconds a device is given no more."""

    def make_run(encode: Encode) -> Run:
        def run(repeat: int) -> float:
            done = 0
            for signal in until(batches, max_s):
                encode(signal)
                done += signal.numel() // signal.shape[1]
            finish(batches[0].device)
            return done / 1e6

        return run

    return make_run


def _limits(cost: EncodeCost, rates: dict[str, list[float]], item: str, device: torch.device) -> list[Limit]:
    memory = [rate / cost.bytes / 1e6 for rate in rates["memory"]]
    arithmetic = [rate / cost.operations / 1e6 for rate in rates["arithmetic"]]
    copied, computed = max(rates["memory"]) / 1e9, max(rates["arithmetic"]) / 1e9
    beyond = "; the tensor cores, which compiled encoders use, are not bound by it" if device.type == "cuda" else ""
    return [
        Limit(
            "memory",
            f"{cost.bytes:.2f} bytes a {item}, read or written once; copies move up to {copied:.3g} GB/s",
            memory,
        ),
        Limit(
            "arithmetic",
            f"{cost.operations:.0f} float32 operations a {item} by lifting; "
            f"matrix products reach up to {computed:.3g} billion multiply-adds a second{beyond}",
            arithmetic,
        ),
    ]


def _figure(each: Candidate[Encode], rates: Sequence[float], limits: Sequence[float]) -> Figure:
    return Figure(each.name, each.setting.text, each.setting.documented, rates, limits, each.tried)
