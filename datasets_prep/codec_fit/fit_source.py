"""Fitting a codec to a source: its configuration, the samples to use, and the fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from datasets_prep.codec_fit.fit_inputs import FitInputs
from datasets_prep.codec_fit.source_signals import SourceSignals, select_samples
from datasets_prep.sources import Source
from walloc_cdl.codec import Codec
from walloc_cdl.codec.families.walloc import WallocCodec
from walloc_cdl.codec.fit.closed_form import FitConfig, FitReport, fit_codec
from walloc_cdl.codec.fit.plane_codec import PlaneFitConfig, PlaneFitReport, fit_plane_codec
from walloc_cdl.codec.fit.signal_pass import MAX_COEFFICIENTS
from walloc_cdl.errors import CallError, JobError

DEFAULT_LEVELS = {"image": 3, "array": 3, "audio": 8}


def configure_fit(
    source: Source,
    *,
    channels: int | None = None,
    levels: int | None = None,
    sample_rate: int | None = None,
    planes: bool = False,
    **settings: Any,
) -> FitConfig | PlaneFitConfig:
    """Return the configuration of a fit to `source`; arguments that are None are taken from the source.

    `planes` gives that of a codec with bit planes. `settings` are further fields of `FitConfig` or `PlaneFitConfig`.
    Raises `CallError` for channels that the source cannot provide, and for clips of several sample rates.
    """
    if sample_rate is not None and source.kind != "audio":
        raise CallError(f"a sample rate of {sample_rate} Hz for the source {source.name}; only audio has one")
    if channels is None:
        channels = source.channels
    if channels is None:
        raise CallError(f"no sample of {source.name} can be read, so its channels are unknown; check the source")
    _require_channels(source, channels)
    if source.kind == "audio" and sample_rate is None:
        sample_rate = source.root.sample_rate()
    kind: type[FitConfig | PlaneFitConfig] = PlaneFitConfig if planes else FitConfig
    return kind(
        kind="audio" if source.kind == "audio" else "image",
        channels=channels,
        levels=levels or choose_levels(source, channels),
        sample_rate=sample_rate,
        **settings,
    )


def fit_to_source(
    source: Source,
    config: FitConfig | PlaneFitConfig,
    inputs: FitInputs | None = None,
    *,
    fraction: float = 1.0,
    split: str | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[WallocCodec, FitReport | PlaneFitReport, int]:
    """Fit a codec to a source; returns the codec, the report, and the number of samples that could not be used.

    `inputs` say how the samples are prepared, by default as `prepare` does by default. Without `split`, the train split
    is used, or the first split if there is no train split. `threads` is the number of torch's threads, by default the
    one that is fastest when the fit begins. Raises `JobError` if more than half of the samples cannot be used.
    """
    split = split or ("train" if "train" in source.split_names else source.split_names[0])
    samples = select_samples(source, split=split, fraction=fraction, seed=config.seed)
    loads, described = (inputs or FitInputs()).loads(source, config)
    config = replace(config, notes=config.notes | described)
    signals = SourceSignals(source, samples, loads)

    def with_progress() -> Iterator[Tensor]:
        for signal in signals:
            yield signal
            if progress:
                progress(signals.num_done, len(signals))

    settings = {"num_signals": len(signals) * len(loads), "threads": threads}
    codec: WallocCodec
    report: FitReport | PlaneFitReport
    if isinstance(config, PlaneFitConfig):
        codec, report = fit_plane_codec(with_progress(), config, **settings)
    else:
        codec, report = fit_codec(with_progress(), config, **settings)
    if signals.num_skipped > len(signals) // 2:
        raise JobError(
            f"{signals.num_skipped} of {len(signals)} samples of {source.name} could not be used; check the source"
        )
    return codec, report, signals.num_skipped


def choose_levels(source: Source, channels: int) -> int:
    """Choose the number of wavelet levels for a source: `DEFAULT_LEVELS`, or fewer for arrays of many channels.

    For arrays, the coefficients number at most `MAX_COEFFICIENTS`, and at most a quarter of the positions from which
    their covariance is estimated.
    """
    default = DEFAULT_LEVELS[source.kind]
    if source.kind != "array":
        return default
    for levels in range(default, 1, -1):
        if channels * 4**levels <= min(MAX_COEFFICIENTS, source.root.num_pixels // 4**levels // 4):
            return levels
    return 1


def _require_channels(source: Source, channels: int) -> None:
    if source.kind == "image" and channels not in (1, 3):
        raise CallError(f"--channels {channels}: image files give 1 (gray) or 3 (RGB)")
    if source.kind == "array" and channels != source.channels:
        raise CallError(f"--channels {channels}: the arrays of {source.name} have {source.channels}; omit the option")


def save_codec(codec: Codec, out: Path) -> None:
    """Write the codec's files to the folder `out`, each atomically."""
    codec.save_pretrained(out)
