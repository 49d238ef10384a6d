"""The codec of `cdl prepare` where none is named: a shipped one with bit planes, or one fitted to the source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from walloc_cdl.cli.console import progress, say

if TYPE_CHECKING:
    from datasets_prep.job.config import PrepareConfig
    from datasets_prep.sources import Source
    from datasets_prep.sources.core.streaming_source import StreamingSource
    from walloc_cdl.codec import Codec

OWN_CODEC = "own"
"""Value of `--codec` for a codec that is fitted to the source first."""

FORECAST_SAMPLES = 256
"""Samples to which a dry run fits the codec that it measures with."""

LOW_RATE = 0.4
"""Bits a pixel below which the shipped codecs with four wavelet levels, such as rgb-low, are better."""


def choose_codec(
    samples: Source | StreamingSource,
    name: str | None,
    out: str,
    config: PrepareConfig,
    work: Path | None,
    *,
    dry_run: bool,
) -> Codec:
    """Return the shipped codec for `samples` if `name` is None, or the own one, which is fitted first.

    A dry run fits it to few samples and keeps nothing. Raises `CallError` as `shipped_codec` and `own_codec` do.
    """
    if name is None:
        return _shipped(samples, config)
    from datasets_prep.codec_fit.own_codec import configure_own_fit, fit_own, own_codec, require_own
    from datasets_prep.prepare_remote import finished_codec, work_set
    from datasets_prep.sources import Source
    from walloc_cdl.addresses import is_address

    assert isinstance(samples, Source)
    with progress("fit", "samples") as update:
        if dry_run:
            say(f"this forecast is of a codec fitted to at most {FORECAST_SAMPLES} samples; the job fits one first")
            fit = configure_own_fit(samples, config)
            return fit_own(samples, fit, config, max_samples=FORECAST_SAMPLES, progress=update)
        if not is_address(out):
            return own_codec(samples, out, config, progress=update)
        if not config.restart and (finished := finished_codec(out)) is not None:
            return require_own(finished, out)
        return own_codec(samples, work_set(out, work), config, progress=update)


def _shipped(samples: Source | StreamingSource, config: PrepareConfig) -> Codec:
    from datasets_prep.decode.images import ImagePreparation
    from datasets_prep.encode.budget import shipped_codec
    from datasets_prep.sources import Source
    from datasets_prep.sources.core.stream_shards import StreamHead
    from walloc_cdl.codec import zoo_names

    codec, low = shipped_codec(samples if isinstance(samples, Source) else StreamHead(samples)), None
    if samples.kind == "image":
        rate = config.bpp or 8 * (config.bytes or 0) / (config.size or ImagePreparation.size) ** 2
        low = f"{codec.name}-low" if rate < LOW_RATE and f"{codec.name}-low" in zoo_names() else None
    better = f"; below {LOW_RATE:g} bits a pixel, --codec {low} is better" if low else ""
    say(f"codec {codec.name}, the shipped one for {codec.spec.source_channels} channels{better}")
    return codec
