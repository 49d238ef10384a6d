"""The plan of a job whose source is a stream: all but the shards, which follow from what comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

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
    "shards": "a stream has one reader, who alone knows what has come; leave it out, or take a source with random "
    "access",
    "finish": "the end of slices, which a stream has not; run the same without it",
    "extend": "new samples are found by comparing listings, which a stream has not; take a source with random access",
}
"""Settings that have no meaning for a stream, and why."""


@dataclass(frozen=True)
class PlannedStream:
    """A plan with what it was made from."""

    plan: Plan
    """Without shards; its digest ties their records to it."""
    stream: StreamingSource
    preparation: Preparation
    facts: SourceFacts
    codec: Codec
    config: PrepareConfig

    @property
    def limit(self) -> int | None:
        """Samples of each split at most."""
        return self.plan.source["limit"]

    @property
    def shard_samples(self) -> int:
        """Source samples of each shard but the last of a split."""
        return self.plan.preprocessing["shard_samples"]


def plan_stream(stream: StreamingSource, codec: Codec, config: PrepareConfig) -> PlannedStream:
    """The plan of a call of `prepare` with a stream, from its first samples and without looking at the output.

    Raises `CallError` as `prepare` does, and for settings that have no meaning for a stream.
    """
    for name, reason in REFUSED.items():
        if value := getattr(config, name):
            given = f"--{name}" if value is True else f"--{name} {value}"
            raise CallError(f"{given} with the stream {stream.name}: {reason}")
    if config.engine != "local":
        raise CallError(
            f"engine {config.engine!r} with the stream {stream.name}, whose one reader hands samples to the workers of "
            "its own machine; take engine 'local', or a source with random access"
        )
    if stream.kind != "image":
        raise CallError(f"stream {stream.name} is of kind {stream.kind!r}; streams hold images: take another source")
    head = StreamHead(stream)
    preparation = choose_preparation(head, codec, config)
    plan = make_plan(head, codec, preparation, config)
    source = {
        "name": stream.name,
        "streaming": True,
        "limit": config.limit,
        "splits": stream.split_names,
        "class_names": stream.class_names,
    }
    plan = replace(plan, source=source, shards=())
    return PlannedStream(plan, stream, preparation, source_facts(head), codec, config)


def completed_plan(plan: Plan, source: Source, shards: Sequence[PlannedShard]) -> Plan:
    """The plan once the stream has ended: with its counts and fingerprint, as any other source has them."""
    known: dict[str, Any] = {
        "name": source.name,
        "num_samples": {split: source.num_samples(split) for split in source.split_names},
        "num_strays": 0,
        "fingerprint": source.fingerprint(),
        "streaming": True,
        "limit": plan.source["limit"],
    }
    return replace(plan, source=known, shards=tuple(shards))
