"""The plan of a job: which samples go to which shard, and all that decides the bytes.

Two runs with equal plans make equal data sets, so an interrupted job goes on only under its own plan.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets_prep.encode.devices import device_kind
from datasets_prep.job.config import PrepareConfig
from datasets_prep.samples.planned_shard import PlannedShard, shard_name
from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources.core.source import Source
from walloc_cdl import canonical
from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.codec import Codec
from walloc_cdl.devices import choose_device
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.files import write_atomic
from walloc_cdl.latents import Manifest
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, parse_json_with_digest

FORMAT = "walloc-cdl plan"
FORMAT_VERSION = 1
PLAN_NAME = "plan.json"

JOB_SETTINGS = ("shard_samples", "duplicates")
"""Settings in the preprocessing of a plan, or manifest, that say nothing about single samples."""

STREAM_FIELDS = ("streaming", "limit")
"""Fields of a manifest's source that those of streams have besides."""

MAX_SHARD_SAMPLES = 8192
MAX_SHARD_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Plan:
    """Plain JSON values, and the shards that follow from them."""

    source: dict[str, Any]
    """Name, counts and fingerprint; stands in the manifest as it is. Of a stream, until it has ended, name, limit,
    splits and class names."""
    codec: dict[str, str]
    """Codec id and the SHA-256 of the codec's files."""
    preprocessing: dict[str, Any]
    """How samples become the codec's input; stands in the manifest as it is."""
    engine: dict[str, Any]
    """Kind of device, batch, versions: they decide the last bits of a code."""
    shards: tuple[PlannedShard, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        header = {"format": FORMAT, "format_version": FORMAT_VERSION}
        return {**header, **asdict(self), "shards": [asdict(shard) for shard in self.shards]}

    def digest(self) -> str:
        """SHA-256 (hex); ties the records of finished shards to their plan."""
        return sha256_hex(canonical_json(self.to_json()))

    @property
    def num_samples(self) -> int:
        """Source samples of all shards."""
        return sum(shard.num_samples for shard in self.shards)

    @property
    def is_stream(self) -> bool:
        """Whether the source is a stream whose end is not known: then there are no shards here."""
        return bool(self.source.get("streaming")) and "fingerprint" not in self.source

    def shard_names(self, names: Iterable[str]) -> list[str]:
        """Those of some file names that are shards of this plan."""
        planned = {shard.name for shard in self.shards}
        return [name for name in names if name in planned or (self.is_stream and self._may_be_shard(name))]

    def _may_be_shard(self, name: str) -> bool:
        found = re.fullmatch(r"(.+)-[0-9]{5,}\.safetensors", name)
        return found is not None and found[1] in self.source["splits"]


def make_plan(source: Source, codec: Codec, preparation: Preparation, config: PrepareConfig) -> Plan:
    """Plan the encoding of `source`.

    Raises `CallError` for a size that the codec cannot encode, and for a device that this machine does not have.
    """
    latent_bytes = math.prod(codec.latent_shape(preparation.shape)) * max(1, len(preparation.view_names))
    shard_samples = config.shard_samples or max(1, min(MAX_SHARD_SAMPLES, MAX_SHARD_BYTES // latent_bytes))
    device = device_kind(choose_device(config.device, allocate=True))
    return Plan(
        source={
            "name": source.name,
            "num_samples": {split: source.num_samples(split) for split in source.split_names},
            "num_strays": len(source.strays),
            "fingerprint": source.fingerprint(),
        },
        codec={
            "codec_id": codec.spec.codec_id,
            **{name: sha256_hex(data) for name, data in sorted(codec.files().items())},
        },
        preprocessing={
            **preparation.to_json(),
            "shard_samples": shard_samples,
            "duplicates": "left out" if config.drop_duplicates else "kept",
        },
        engine={"device": device, "batch": config.batch, "versions": preparation.versions()},
        shards=plan_shards(source, shard_samples),
    )


def plan_shards(source: Source, shard_samples: int, first: Mapping[str, int] | None = None) -> tuple[PlannedShard, ...]:
    """The samples of each split, in order, dealt out to shards; `first`: number of a split's first shard, else 0."""
    return tuple(
        shard
        for split in source.split_names
        for shard in split_shards(split, source.num_samples(split), shard_samples, (first or {}).get(split, 0))
    )


def split_shards(split: str, num_samples: int, shard_samples: int, first: int = 0) -> Iterator[PlannedShard]:
    """The samples of one split, dealt out likewise; `first`: number of its first shard."""
    for number, start, stop in _ranges(num_samples, shard_samples):
        yield PlannedShard(shard_name(split, first + number), split, start, stop)


def save_plan(work: Path, plan: Plan) -> None:
    """Write the plan into the job's work folder."""
    write_atomic(work / PLAN_NAME, encode_json_with_digest(plan.to_json()))


def load_plan(work: Path) -> Plan:
    """Inverse of `save_plan`; raises `DamagedError` for a plan that was altered, `CallError` for another version's."""
    path = work / PLAN_NAME
    values = parse_json_with_digest(path.read_bytes(), origin=str(path))
    if values.pop("format", None) != FORMAT or values.pop("format_version", None) != FORMAT_VERSION:
        raise CallError(f"{path} is no plan of version {FORMAT_VERSION}; remove the folder, or go on with its version")
    try:
        shards = tuple(PlannedShard(**shard) for shard in values.pop("shards"))
        return Plan(**values, shards=shards)
    except (TypeError, KeyError) as error:
        raise DamagedError(
            f"{path} has missing or unknown fields ({error}); remove its folder and begin anew"
        ) from error


def first_difference(mine: Plan, theirs: Plan) -> tuple[str, Any, Any] | None:
    """The first field in which two plans differ, with both values."""
    return canonical.first_difference(mine.to_json(), theirs.to_json())


def difference_from_finished(plan: Plan, manifest: Manifest) -> tuple[str, Any, Any] | None:
    """The first field in which a finished data set is not what `plan` would make, with the plan's value and its own.

    Versions and device are left out: a finished data set stays what it is. So are, of a stream, counts and
    fingerprint, which its plan has not.
    """
    files = {name: manifest.files[f"codec/{name}"].sha256 for name in plan.codec if f"codec/{name}" in manifest.files}
    mine, theirs = _comparable_sources(plan, manifest)
    finished = {
        "source": theirs,
        "codec": {"codec_id": manifest.spec.codec_id, **files},
        "preprocessing": manifest.preprocessing,
    }
    planned = {"source": mine, "codec": plan.codec, "preprocessing": plan.preprocessing}
    return canonical.first_difference(planned, finished)


def _comparable_sources(plan: Plan, manifest: Manifest) -> tuple[dict[str, Any], dict[str, Any]]:
    """What plan and manifest say of their sources, as far as both know it.

    A fingerprint says it all, also where the samples had come as a stream.
    """
    if not plan.is_stream:
        mine, theirs = (
            {name: value for name, value in source.items() if name not in STREAM_FIELDS}
            for source in (plan.source, manifest.source)
        )
        return mine, theirs
    splits = [split for split in plan.source["splits"] if split in manifest.splits]  # a manifest has them in no order
    splits += [split for split in manifest.splits if split not in splits]
    known = {**manifest.source, "splits": splits, "class_names": manifest.class_names}
    return plan.source, {name: known.get(name) for name in plan.source}


def _ranges(total: int, step: int) -> Iterator[tuple[int, int, int]]:
    for number, start in enumerate(range(0, total, step)):
        yield number, start, min(start + step, total)
