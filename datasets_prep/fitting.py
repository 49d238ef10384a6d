"""Codecs fitted to sources, and their folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor

from datasets_prep.native import native_signals
from datasets_prep.sources import Source, open_source
from walloc_cdl.codec import Codec, WallocCodec2D
from walloc_cdl.codec.fit import MAX_COEFFICIENTS, FitConfig, FitReport, fit_codec
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.files import foreign_names, remove_temporaries, write_atomic

DEFAULT_LEVELS = 3


def fit_to_source(
    source_name: str,
    config: FitConfig,
    *,
    out: Path,
    auto_levels: bool = False,
    fraction: float = 1.0,
    split: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[WallocCodec2D, FitReport, int]:
    """Fit a codec to a source; returns it, the report, and how many samples could not be used.

    `config.channels` of 0 takes the source's own; `auto_levels` takes 3 wavelet levels, or fewer for a
    source of many channels, whatever `config.levels` says.

    The train split is used where there are several, unless `split` names another. Raises `CallError`
    when `out` holds something else than a codec, before anything is read.
    """
    require_codec_folder(out)
    source = open_source(source_name)
    config = dataclasses.replace(config, channels=config.channels or source.channels or 0)
    if auto_levels:
        config = dataclasses.replace(config, levels=choose_levels(source, config.channels))
    _require_channels(source, config.channels)
    split = split or ("train" if "train" in source.split_names else source.split_names[0])
    stride = 2**config.levels
    signals = native_signals(source, config.channels, stride, split=split, fraction=fraction, seed=config.seed)

    def counted() -> Iterator[Tensor]:
        for done, signal in enumerate(signals, start=1):
            yield signal
            if progress:
                progress(done, len(signals))

    codec, report = fit_codec(counted(), config)
    if signals.num_skipped > len(signals) // 2:
        raise JobError(
            f"{signals.num_skipped} of {len(signals)} samples of {source.name} could not be used; check the source"
        )
    return codec, report, signals.num_skipped


def choose_levels(source: Source, channels: int) -> int:
    """Wavelet levels for a source: `DEFAULT_LEVELS`, fewer for arrays of many channels.

    As many as keep the covariance within `MAX_COEFFICIENTS`, and below a quarter as many coefficients as
    there are positions to estimate it from.
    """
    if source.kind != "array":
        return DEFAULT_LEVELS
    for levels in range(DEFAULT_LEVELS, 1, -1):
        coefficients = channels * 4**levels
        if coefficients <= min(MAX_COEFFICIENTS, source.root.num_pixels // 4**levels // 4):
            return levels
    return 1


def _require_channels(source: Source, channels: int) -> None:
    if source.kind == "image" and channels not in (1, 3):
        raise CallError(f"--channels {channels}: image files give 1 (gray) or 3 (RGB)")
    if source.kind == "array" and channels != source.channels:
        raise CallError(f"--channels {channels}: the arrays of {source.name} have {source.channels}; leave it away")


def require_codec_folder(out: Path) -> None:
    """Raise `CallError` unless a codec may be written to `out`: it is absent, empty, or holds a codec."""
    if out.exists() and not out.is_dir():
        raise CallError(f"{out} is a file; name a folder for the codec")
    if foreign := foreign_names(out, {"config.json", "model.safetensors"}):
        raise CallError(f"{out} holds something else ({foreign[0]}); name a new folder for the codec")


def save_codec(codec: Codec, out: Path) -> None:
    """Write the codec's files to the folder `out`, each in one step."""
    require_codec_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    remove_temporaries(out)
    for name, data in codec.files().items():
        write_atomic(out / name, data)
