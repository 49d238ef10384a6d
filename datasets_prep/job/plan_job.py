"""A call of `prepare`, planned: what is to be made of which samples, without looking at the output."""

from __future__ import annotations

from dataclasses import dataclass

from datasets_prep.decode.audio import AudioPreparation
from datasets_prep.job.choose_preparation import choose_preparation
from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.plan import Plan, make_plan
from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources.core.keyed import KeyedSource
from datasets_prep.sources.core.limits import within_limit
from datasets_prep.sources.core.source import Source
from datasets_prep.sources.signals.audiofolder import SegmentedSource
from walloc_cdl.codec import Codec
from walloc_cdl.machine import cpu_count

FEW_SAMPLES = 128
"""Up to here starting workers takes longer than decoding."""


@dataclass(frozen=True)
class PlannedJob:
    """A plan with what it was made from."""

    plan: Plan
    source: Source
    """Its samples are those that are stored: clips cut into segments, and no more than the limit."""
    preparation: Preparation
    codec: Codec
    config: PrepareConfig


def plan_job(source: Source, codec: Codec, config: PrepareConfig) -> PlannedJob:
    """The plan of a call of `prepare`, without looking at the output; raises `CallError` as that does."""
    return plan_prepared(source, codec, choose_preparation(source, codec, config), config)


def plan_prepared(source: Source, codec: Codec, preparation: Preparation, config: PrepareConfig) -> PlannedJob:
    """`plan_job` by a preparation that is known, in place of the settings for a kind of signal."""
    if isinstance(preparation, AudioPreparation):
        source = SegmentedSource(source, preparation)
    if preparation.view_names:
        source = KeyedSource(source)
    source = within_limit(source, config.limit)
    return PlannedJob(make_plan(source, codec, preparation, config), source, preparation, codec, config)


def choose_workers(config: PrepareConfig, num_samples: int) -> int:
    """Decoding processes for a job of so many samples."""
    if config.workers is not None:
        return config.workers
    return cpu_count() if num_samples > FEW_SAMPLES else 0
