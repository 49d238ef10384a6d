"""Plans a job whose source is a stream. The plan has no shards and no counts, which are known when the stream ends.

A finished data set is therefore compared with a stream's plan in part. Its manifest has the same counts and fingerprint
as that of a source with random access.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets_prep.encode.budget import Budget
from datasets_prep.job.choose_preparation import choose_preparation
from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.plan import Plan, make_plan
from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources.core.shard_source import SourceFacts, source_facts
from datasets_prep.sources.core.source import Source
from datasets_prep.sources.core.stream_shards import StreamHead
from datasets_prep.sources.core.streaming_source import StreamingSource
from walloc_cdl.codec import Codec
from walloc_cdl.errors import CallError

REFUSED = {
    "shards": "a stream has one reader and cannot be divided into slices; omit it, or use a source with random access",
    "finish": "it completes slices, which a stream does not have; run the same command without it",
    "extend": "new samples are found by comparing listings, which a stream does not have; use a source with random "
    "access",
}
"""Settings that do not apply to a stream, with the reason and the remedy."""


@dataclass(frozen=True)
class PlannedStream:
    """A plan with the objects that it was made from."""

    plan: Plan
    """The plan without shards, whose digest ties the records of shards to it."""
    stream: StreamingSource
    preparation: Preparation
    facts: SourceFacts
    codec: Codec
    config: PrepareConfig
    notes: tuple[str, ...] = ()
    """Messages for users, to be shown before the job."""

    @property
    def limit(self) -> int | None:
        """Maximum number of samples of each split; None for all."""
        return self.plan.source["limit"]

    @property
    def shard_samples(self) -> int:
        """Number of source samples of each shard, except the last of a split."""
        return self.plan.preprocessing["shard_samples"]


def plan_stream(stream: StreamingSource, codec: Codec, config: PrepareConfig) -> PlannedStream:
    """Plan a call of `prepare` with a stream, from its first samples and without examining the output.

    Raises `CallError` as `prepare` does, and for settings that do not apply to a stream.
    """
    for name, reason in REFUSED.items():
        if value := getattr(config, name):
            given = f"--{name}" if value is True else f"--{name} {value}"
            raise CallError(f"{given} with the stream {stream.name}: {reason}")
    if config.engine != "local":
        raise CallError(
            f"engine {config.engine!r} with the stream {stream.name}, whose single reader sends samples to workers on "
            "its own machine; use engine 'local', or a source with random access"
        )
    if stream.kind != "image":
        raise CallError(f"stream {stream.name} is of kind {stream.kind!r}; streams hold images: use another source")
    head = StreamHead(stream)
    preparation = choose_preparation(head, codec, config)
    codec, notes = Budget(config.bytes, config.bpp).fit(codec, preparation)
    plan = make_plan(head, codec, preparation, config)
    source = {
        "name": stream.name,
        "streaming": True,
        "limit": config.limit,
        "splits": stream.split_names,
        "class_names": stream.class_names,
    }
    plan = replace(plan, source=source, shards=())
    return PlannedStream(plan, stream, preparation, source_facts(head), codec, config, tuple(notes))


def completed_plan(plan: Plan, source: Source, shards: Sequence[PlannedShard]) -> Plan:
    """Return the plan of a stream that has ended, with counts, fingerprint and shards as of any other source."""
    known: dict[str, Any] = {
        "name": source.name,
        "num_samples": {split: source.num_samples(split) for split in source.split_names},
        "num_strays": 0,
        "fingerprint": source.fingerprint(),
        "streaming": True,
        "limit": plan.source["limit"],
    }
    return replace(plan, source=known, shards=tuple(shards))
