"""`--codec own`: a codec with bit planes that is fitted to the train split of a source before its job begins.

It is fitted to what the job hands to the encoder, once for each output folder, under the folder's lock, and kept in the
work folder until the data set is done: a job that is resumed, and the slices of an array job, go on with it. The data
set then holds it as any codec, and its `config.json` says under `own` what it was fitted to.

One thread of torch fits it, so that the same source and settings give the same codec on machines of one kind.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets_prep.codec_fit.fit_inputs import FitInputs, unfitted_codec
from datasets_prep.codec_fit.fit_source import choose_levels, configure_fit, fit_to_source
from datasets_prep.encode.budget import Budget
from datasets_prep.folders import locks
from datasets_prep.job.choose_preparation import choose_preparation
from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.output import ANOTHER_FOLDER, CODEC_FOLDER, OWN, OWN_CODEC_NAME, present_manifest
from datasets_prep.job.plan import PLAN_NAME
from datasets_prep.job.run import call_lock
from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources import Source
from datasets_prep.sources.core.limits import within_limit
from walloc_cdl.addresses import utf8_path
from walloc_cdl.codec import Codec, load_codec_folder
from walloc_cdl.codec.codec_files import FILE_NAMES
from walloc_cdl.codec.fit.plane_codec import PlaneFitConfig
from walloc_cdl.errors import CallError
from walloc_cdl.files import make_folder, remove_tree, write_atomic
from walloc_cdl.latents import WORK_NAME, load_manifest

MAX_SAMPLES = 2048
"""Samples that an own codec is fitted to, at most; more change the principal components hardly."""

LOW_RATE = 0.4
"""Bits a pixel below which four wavelet levels are better than three."""

AUDIO_LEVELS = 6

MIN_POSITIONS = 4
"""Latent positions for each coefficient, at least, for the number of levels to be chosen."""


def own_codec(
    source: Source,
    out: str | os.PathLike[str],
    config: PrepareConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Codec:
    """Return the codec for a job of `prepare` that stores `source` in the folder `out` with a codec fitted to it.

    It is fitted to at most `MAX_SAMPLES` samples of the train split, drawn by the seed, unless the folder has it: as a
    finished data set, or as a job that was interrupted since. `progress` is called with the number of samples that are
    done and their total. Raises `CallError` for settings without a budget, for a budget that does not apply, and for a
    folder that holds anything else; `JobError` for too few samples.
    """
    folder = utf8_path(out)
    source = within_limit(source, config.limit, config.seed)
    fit = configure_own_fit(source, config)
    if config.extend:
        load_manifest(folder)
        return _of_data_set(folder)
    if present_manifest(folder, restart=config.restart) is not None:
        return _of_data_set(folder)
    with call_lock(folder, config), locks.planning_lock(folder / WORK_NAME):
        # again: before this call got the lock, another one may have completed the job
        if present_manifest(folder, restart=config.restart) is not None:
            return _of_data_set(folder)
        kept = None if config.restart else _kept(folder, fit.notes[OWN])
        return kept or _keep(folder, fit_own(source, fit, config, progress=progress))


def configure_own_fit(source: Source, config: PrepareConfig) -> PlaneFitConfig:
    """Return the configuration of the fit, whose notes record what the codec is fitted to; raises as `own_codec`."""
    trial = configure_fit(source, levels=1, planes=True, name=OWN)
    preparation = choose_preparation(source, unfitted_codec(trial), config)
    rate = Budget(config.bytes, config.bpp).rate(trial.kind, preparation)
    if rate is None:
        raise CallError("an own codec needs a budget: give bytes a sample (--bytes) or bits a pixel (--bpp)")
    default = PlaneFitConfig(kind=trial.kind, channels=trial.channels, levels=1).rate
    settings = {
        "levels": _levels(source, trial.channels, preparation, rate),
        "max_rate": max(default, rate),
        "seed": config.seed,
    }
    own = {
        "source": source.name,
        "fingerprint": source.fingerprint(),
        "split": fit_split(source),
        **settings,
        "max_samples": MAX_SAMPLES,
        **(FitInputs.of_job(config).to_json() if source.kind == "image" else {}),
    }
    fit = configure_fit(source, planes=True, name=OWN, notes={OWN: own}, **settings)
    assert isinstance(fit, PlaneFitConfig)
    if not preparation.ragged and fit.kind == "image" and source.kind == "image":
        unfitted_codec(fit).latent_shape(preparation.shape)  # raises for a size that the codec cannot encode
    return fit


def fit_own(
    source: Source,
    fit: PlaneFitConfig,
    config: PrepareConfig,
    *,
    max_samples: int = MAX_SAMPLES,
    progress: Callable[[int, int], None] | None = None,
) -> Codec:
    """Fit to at most `max_samples` samples of the train split, drawn by the seed; see `own_codec`."""
    split = fit_split(source)
    fraction = min(1.0, max_samples / max(source.num_samples(split), 1))
    inputs = FitInputs.of_job(config)
    codec, _, _ = fit_to_source(source, fit, inputs, fraction=fraction, split=split, threads=1, progress=progress)
    return codec


def fit_split(source: Source) -> str:
    """Return the split that a codec is fitted to: `train`, or the first one with samples."""
    filled = [split for split in source.split_names if source.num_samples(split)]
    if not filled:
        raise CallError(f"source {source.name} has no samples to fit a codec to")
    return "train" if "train" in filled else filled[0]


def require_own(codec: Codec, origin: object) -> Codec:
    """Return the codec of the data set `origin`; raises `CallError` if it was not fitted for it."""
    if OWN not in getattr(codec.config, "fit", {}):
        raise CallError(f"{origin} holds a data set of codec {codec.name}, not of an own one; {ANOTHER_FOLDER}")
    return codec


def _levels(source: Source, channels: int, preparation: Preparation, rate: float) -> int:
    """Return the number of wavelet levels: 3 for images, 4 at low rates, 6 for sound, fewer for small data."""
    if source.kind == "array":
        return choose_levels(source, channels)
    if source.kind == "audio":
        return AUDIO_LEVELS
    height, width = preparation.shape[1:]
    num_samples = min(source.num_samples(fit_split(source)), MAX_SAMPLES)
    for levels in range(4 if rate < LOW_RATE else 3, 1, -1):
        stride = 2**levels
        positions = num_samples * (height // stride) * (width // stride)
        is_whole = preparation.ragged or height % stride == width % stride == 0
        if is_whole and positions >= MIN_POSITIONS * channels * 4**levels:
            return levels
    return 1


def _of_data_set(folder: Path) -> Codec:
    return require_own(load_codec_folder(folder / CODEC_FOLDER), folder)


def _kept(folder: Path, own: dict[str, Any]) -> Codec | None:
    """Return the codec of an unfinished job, or None if there is none, or one that no plan uses and that differs."""
    kept = folder / WORK_NAME / OWN_CODEC_NAME
    has_plan = (folder / WORK_NAME / PLAN_NAME).is_file()
    if not all((kept / name).is_file() for name in FILE_NAMES):
        if has_plan:
            raise CallError(f"{folder} holds an unfinished job with another codec than an own one; {ANOTHER_FOLDER}")
        return None
    codec = load_codec_folder(kept)
    return codec if has_plan or codec.config.fit.get(OWN) == own else None


def _keep(folder: Path, codec: Codec) -> Codec:
    """Write the codec into the work folder, whose lock the caller holds; it is complete when it has both files."""
    kept = folder / WORK_NAME / OWN_CODEC_NAME
    remove_tree(kept)
    make_folder(kept)
    for name, data in codec.files().items():
        write_atomic(kept / name, data)
    return load_codec_folder(kept)
