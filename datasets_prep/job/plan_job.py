"""Plans a call of `prepare` without examining the output."""

from __future__ import annotations

from dataclasses import dataclass, replace

from datasets_prep.decode.arrays import ArrayPreparation
from datasets_prep.decode.audio import AudioPreparation
from datasets_prep.decode.ragged import RaggedPreparation
from datasets_prep.encode.budget import Budget
from datasets_prep.job.choose_preparation import choose_preparation
from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.plan import Plan, make_plan
from datasets_prep.job.read_failures import QUARANTINE
from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources.core.derived import DerivedSource
from datasets_prep.sources.core.keyed import KeyedSource
from datasets_prep.sources.core.label_notes import unlabeled_notes
from datasets_prep.sources.core.limits import LimitedSource, within_limit
from datasets_prep.sources.core.source import Source
from datasets_prep.sources.signals.audiofolder import SegmentedSource
from datasets_prep.sources.signals.sound_notes import ClipNotes
from walloc_cdl.codec import Codec


@dataclass(frozen=True)
class PlannedJob:
    """A plan with the objects that it was made from."""

    plan: Plan
    source: Source
    """The samples to store: clips are cut into segments, and the limit is applied."""
    preparation: Preparation
    codec: Codec
    config: PrepareConfig
    notes: tuple[str, ...] = ()
    """Messages for users, to be shown before the job: what they may miss, and how to change it."""


def plan_job(source: Source, codec: Codec, config: PrepareConfig) -> PlannedJob:
    """Plan a call of `prepare` without examining the output; raises `CallError` as `prepare` does.

    The job's codec has the bit planes that fit into the budget of `config`.
    """
    preparation = choose_preparation(source, codec, config)
    codec, notes = Budget(config.bytes, config.bpp).fit(codec, preparation)
    planned = plan_prepared(source, codec, preparation, config)
    return replace(planned, notes=(*planned.notes, *notes))


def plan_prepared(source: Source, codec: Codec, preparation: Preparation, config: PrepareConfig) -> PlannedJob:
    """Plan a job with a given preparation instead of the settings of a kind of signal; see `plan_job`."""
    if isinstance(preparation, AudioPreparation):
        source = SegmentedSource(source, preparation, skip_unreadable=config.unreadable == QUARANTINE)
        source = _with_notes(source, source.clip_notes.notes(codec.name, codec.spec.reduction()))
    elif isinstance(preparation, RaggedPreparation) and isinstance(preparation.inner, AudioPreparation):
        clip_notes = ClipNotes(preparation.inner)
        for info in source.root.clip_infos.values():
            clip_notes.add(info, None)
        source = _with_notes(source, clip_notes.notes(codec.name, codec.spec.reduction()))
    elif isinstance(preparation, ArrayPreparation):
        source = _with_notes(source, source.root.cut_notes(preparation))
    if preparation.view_names:
        source = KeyedSource(source)
    return plan_samples(within_limit(source, config.limit, config.seed), codec, preparation, config)


def _with_notes(source: Source, notes: list[str]) -> Source:
    return DerivedSource(source, replace(source.listing, notes=[*source.notes, *notes]))


def plan_samples(source: Source, codec: Codec, preparation: Preparation, config: PrepareConfig) -> PlannedJob:
    """Plan a job of exactly the samples of `source`; see `plan_prepared`, which chooses them."""
    plan = make_plan(source, codec, preparation, config)
    if isinstance(source, LimitedSource):
        plan = replace(plan, source={**plan.source, **source.limit_record()})
    notes = (*source.notes, *unlabeled_notes(source))
    return PlannedJob(plan, source, preparation, codec, config, notes)
