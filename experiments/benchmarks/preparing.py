"""`cdl bench prepare`: whole conversions of a source, compared with decoding, resizing and encoding alone.

Decoding, resizing and encoding alone, by the same code in as many processes, is the limit of any conversion: its
workers send nothing back. The start of the workers, which both need, is timed in each repeat and taken from both.
Decoding and resizing by Pillow alone is the cost of pixels in most pipelines, and torchvision's pipeline to pixels of
the same size shows whether the limit is low.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datasets_prep.decode.images import ImagePreparation
from datasets_prep.encode.encoder import open_encoding
from datasets_prep.job.config import PrepareConfig, choose_workers
from datasets_prep.job.plan_job import plan_job
from datasets_prep.prepare_local import prepare
from datasets_prep.sources import open_source
from datasets_prep.sources.core.source import Source
from experiments.benchmarks.autotune import Candidate, choose_peer_settings
from experiments.benchmarks.decoding import decode_all, decode_by_pillow
from experiments.benchmarks.machine import describe_machine
from experiments.benchmarks.reading import TRIAL_S, read_for
from experiments.benchmarks.result import Figure, Limit, Result
from experiments.benchmarks.synthetic import DEFAULT_BYTES, write_photos
from experiments.benchmarks.timing import OnPhase, Run, silent, time_in_turn
from experiments.peers.catalog import choose_peers
from experiments.peers.peer import Absent, ReadEpoch, ReadingTask
from walloc_cdl.codec import load_codec
from walloc_cdl.devices import choose_device
from walloc_cdl.errors import CallError

THIS_PACKAGE, PILLOW, LIMIT = "walloc-cdl", "pillow alone", "decoding"


@dataclass(frozen=True)
class PrepareBenchmark:
    """Settings of `measure_preparation`."""

    source: str | None = None
    """As for `cdl prepare`; None for synthetic photos."""
    num_bytes: int = DEFAULT_BYTES
    """Bytes of the synthetic photos."""
    codec: str = "rgb-16x"
    size: int | None = None
    """Side in pixels; None for 256."""
    workers: int | None = None
    """Decoding processes; 0 for this process, None for one process per CPU."""
    repeats: int = 3
    decoder: str | None = None
    """Decoder of images, as in `cdl prepare`: `pil`, the default, or `pil-scaled`."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_bytes", "repeats"):
            if getattr(self, name) < 1:
                raise CallError(f"{name} is {getattr(self, name)}; it must be at least 1")


def measure_preparation(
    benchmark: PrepareBenchmark,
    against: str | None = None,
    *,
    folder: Path | str | None = None,
    on_phase: OnPhase = silent,
) -> Result:
    """Time conversions to a temporary folder (below `folder`) and their limit, in turn, after reading the source once.

    `against` names the peers, as `cdl bench prepare --against` does. Raises the errors of `prepare`.
    """
    peers, absent = choose_peers("prepare", against)
    codec = load_codec(benchmark.codec)
    config = PrepareConfig(size=benchmark.size, workers=benchmark.workers, decoder=benchmark.decoder)
    with tempfile.TemporaryDirectory(dir=folder, prefix="cdl-bench-") as parent:
        machine = describe_machine()
        on_phase("opening the source", 0, 0)
        source, images = _open(benchmark, Path(parent))
        planned = plan_job(source, codec, config)
        num_samples, workers = planned.plan.num_samples, choose_workers(config, planned.plan.num_samples)

        starts: dict[str, list[float]] = {LIMIT: [], PILLOW: []}
        device = choose_device(config.device)
        encoder = open_encoding(codec, planned.preparation, device, batch=config.batch).in_workers

        def decode(repeat: int) -> float:
            return decode_all(planned.source, planned.preparation, workers, encoder, starts[LIMIT].append)

        def convert(repeat: int) -> float:
            prepare(source, codec, Path(parent) / f"set-{repeat}", config)
            return num_samples

        decode(0)
        starts[LIMIT].clear()
        runs: dict[str, Run] = {LIMIT: decode, THIS_PACKAGE: convert}
        candidates: list[Candidate[ReadEpoch]] = []
        if images is None or not isinstance(planned.preparation, ImagePreparation):
            absent += [Absent(peer.name, "it reads folders of images only") for peer in peers]
        else:
            side = benchmark.size or 256
            task = ReadingTask(Path(), Path(), images, side, crop="center", batch_size=32, threads=max(1, workers))
            trial = read_for(TRIAL_S)
            others, failed = choose_peer_settings(peers, lambda peer: peer.read_settings(task), [trial], on_phase)
            candidates = [each for (each,) in others]
            absent += failed
        has_pillow = planned.preparation == ImagePreparation(codec.spec.source_channels, benchmark.size or 256)
        if has_pillow:
            runs[PILLOW] = lambda repeat: decode_by_pillow(
                planned.source, planned.preparation, workers, starts[PILLOW].append
            )
        runs |= {each.name: read_for(math.inf)(each.setting.work) for each in candidates}
        rates = time_in_turn(runs, benchmark.repeats, partial(on_phase, "preparing"))
    start = starts[LIMIT] or [0.0] * benchmark.repeats
    started = {
        LIMIT: _without_start(rates[LIMIT], start, num_samples),
        THIS_PACKAGE: _without_start(rates[THIS_PACKAGE], start, num_samples),
    }
    encoding = "resizing and encoding" if encoder is not None else "and resizing"
    limit = f"decoding, {encoding} alone, by the code of `cdl prepare`, after the start of the workers"
    text = f"{workers} decoding processes, including the start of the workers, the fit of the synthesis and all files"
    figures = [Figure(THIS_PACKAGE, text, "docs/jobs.md", rates[THIS_PACKAGE], started[LIMIT])]
    if workers:
        after = f"the same, without the start of the workers, {statistics.median(start):.2f} s"
        figures.append(Figure(f"{THIS_PACKAGE}, started", after, "docs/jobs.md", started[THIS_PACKAGE], started[LIMIT]))
    if has_pillow:
        pillow_text = "decoding, Lanczos and crop by Pillow alone, in as many processes, after their start"
        pillow = _without_start(rates[PILLOW], starts[PILLOW] or [0.0] * benchmark.repeats, num_samples)
        figures.append(Figure(PILLOW, pillow_text, "docs/performance.md", pillow, started[LIMIT]))
    figures += [
        Figure(each.name, each.setting.text, each.setting.documented, rates[each.name], started[LIMIT], each.tried)
        for each in candidates
    ]
    return Result(
        benchmark="prepare",
        unit="samples/s",
        work={
            "source": benchmark.source or "synthetic photos",
            "samples": num_samples,
            "codec": codec.name,
            "workers": workers,
            "decoder": benchmark.decoder or "default",
            "repeats": benchmark.repeats,
        },
        machine=machine,
        limits=[Limit(LIMIT, limit, started[LIMIT])],
        figures=figures,
        absent=absent,
    )


def _without_start(rates: Sequence[float], starts: Sequence[float], num_samples: int) -> list[float]:
    """Return the rates without the seconds that the workers took to start, but at most ten times the rates."""
    times = [num_samples / rate for rate in rates]
    return [num_samples / max(total - start, total / 10) for total, start in zip(times, starts, strict=True)]


def _open(benchmark: PrepareBenchmark, parent: Path) -> tuple[Source, Path | None]:
    """Open the source; also returns its folder of images, or None if it is not such a folder."""
    name = benchmark.source
    if name is None:
        write_photos(parent / "photos", num_bytes=benchmark.num_bytes, seed=benchmark.seed)
        name = f"imagefolder:{parent / 'photos'}"
    path = Path(name.removeprefix("imagefolder:"))
    has_folders = path.is_dir() and any(entry.is_dir() for entry in path.iterdir())
    return open_source(name), path if has_folders else None
