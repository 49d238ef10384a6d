"""`cdl bench unpack`: unpacks rows of bit planes to float values, the input of a model.

The limit writes a number to as many values, in memory that is reused, and copies the rows, with one thread. What
unpacking costs in training is its share of a step of a model on as many images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import timm
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from experiments.benchmarks.encoding import THIS_PACKAGE, signal_shape
from experiments.benchmarks.machine import describe_machine
from experiments.benchmarks.result import Figure, Limit, Result
from experiments.benchmarks.synthetic import DEFAULT_BYTES
from experiments.benchmarks.threads import choose_threads
from experiments.benchmarks.timing import OnPhase, Run, Timing, limit_time, silent, time_in_turn
from walloc_cdl.codec import load_codec
from walloc_cdl.errors import CallError
from walloc_cdl.kernels.gpu.lookup import plain_lookup
from walloc_cdl.kernels.gpu.unpack import lookup_rows, plain_unpack
from walloc_cdl.planes.levels import channel_values
from walloc_cdl.planes.rows import planes_for_bytes, row_bytes
from walloc_cdl.threads import torch_threads

MODEL_SIDE = 64
"""Grid of the model: pixels of its input."""
NUM_CLASSES = 10


@dataclass(frozen=True)
class UnpackBenchmark:
    """Settings of `measure_unpacking`."""

    codec: str = "rgb"
    sample_bytes: int = 12288
    """Bytes of a row, of an image of 256 pixels."""
    num_bytes: int = DEFAULT_BYTES
    """Bytes of all rows."""
    batch_size: int = 64
    model: str = "resnet18"
    threads: int | None = None
    """Threads of torch, for the plain path and the model; the compiled path has one."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_bytes", "sample_bytes"):
            if getattr(self, name) < 1:
                raise CallError(f"{name} is {getattr(self, name)}; it must be at least 1")


def measure_unpacking(config: UnpackBenchmark, timing: Timing, *, on_phase: OnPhase = silent) -> Result:
    """Time unpacking on the CPU, of random rows in memory, with its limit and a step of the model in turn.

    Raises `CallError` for a codec without bit planes for RGB images, and for a budget beyond its planes.
    """
    codec = load_codec(config.codec)
    if (codec.kind, codec.source_channels) != ("image", 3):
        raise CallError(f"codec {codec.name} is not for RGB images; choose one that is, such as rgb")
    grid = codec.latent_shape(signal_shape(codec, 1)[1:])[1:]
    codec = codec.with_planes(planes_for_bytes(codec.spec, grid, config.sample_bytes))
    planes, spec = codec.planes or (), codec.spec
    table = torch.from_numpy(channel_values(spec, codec.level_tables)).float()
    size = row_bytes(spec, grid)
    threads = choose_threads(config.threads)
    num_batches = max(1, config.num_bytes // (size * config.batch_size))
    with torch_threads(threads):
        on_phase("generating rows", 0, 0)
        generator = torch.Generator().manual_seed(config.seed)
        shape = (num_batches, config.batch_size, size)
        rows = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        copied = np.empty(rows.shape[1:], np.uint8)
        filled = np.empty((config.batch_size, spec.latent_channels, *grid), np.float32)

        def fill(batch: Tensor) -> None:
            copied[:] = batch.numpy()
            filled.fill(1.5)

        def plain(batch: Tensor) -> None:
            plain_lookup(plain_unpack(batch, planes, grid), table, None, torch.float32)

        step = _make_step(config)
        work: dict[str, Callable[[Tensor], object]] = {
            "memory": fill,
            THIS_PACKAGE: lambda batch: lookup_rows(batch, table, planes, grid),
            "torch": plain,
            f"step of {config.model}": lambda batch: step(),
        }
        runs = {name: _run_over(rows, each, timing.max_s) for name, each in work.items()}
        for each in work.values():
            each(rows[0])
        rates = time_in_turn(runs, timing.repeats, partial(on_phase, "unpacking"))
    memory = rates.pop("memory")
    texts = {
        THIS_PACKAGE: "lookup_rows, compiled, one thread",
        "torch": f"plain_unpack and plain_lookup, {threads} threads",
        f"step of {config.model}": f"forward, backward and update at a grid of {MODEL_SIDE}, {threads} threads",
    }
    text = "as many values are filled with a number, in memory that is reused, and the rows are copied, by one thread"
    return Result(
        benchmark="unpack",
        unit="samples/s",
        work={
            "codec": codec.name,
            "planes": len(planes),
            "channels": spec.latent_channels,
            "batch": f"{config.batch_size}x{size}",
            "batches": num_batches,
            "repeats": timing.repeats,
            "seconds_at_most": timing.max_s,
        },
        machine=describe_machine(("timm",)),
        limits=[Limit("memory", text, memory)],
        figures=[Figure(name, text, "docs/performance.md", rates[name], memory) for name, text in texts.items()],
    )


def _run_over(rows: Tensor, work: Callable[[Tensor], object], max_s: float) -> Run:
    """Returns a run over all batches, (batches, B, R), that counts samples, and starts none after `max_s` seconds."""

    def run(repeat: int) -> float:
        done = 0
        for batch in limit_time(rows, max_s):
            work(batch)
            done += len(batch)
        return float(done)

    return run


def _make_step(config: UnpackBenchmark) -> Callable[[], None]:
    """Returns a training step of the model on one batch of random images."""
    torch.manual_seed(config.seed)
    model = timm.create_model(config.model, num_classes=NUM_CLASSES).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters())
    images = torch.randn(config.batch_size, 3, MODEL_SIDE, MODEL_SIDE)
    labels = torch.arange(config.batch_size) % NUM_CLASSES

    def step() -> None:
        loss = cross_entropy(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step
