"""The plan of a job: the assignment of samples to shards, and everything that determines the bytes.

Two runs with equal plans make equal data sets, so that an interrupted job is resumed only under its own plan.
"""

from __future__ import annotations

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
from walloc_cdl.latents import MAX_MANIFEST_BYTES, Manifest
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, read_json_with_digest
from walloc_cdl.planes.rows import row_bytes
from walloc_cdl.schema import from_json, require_type
from walloc_cdl.spec import LatentSpec

FORMAT = "walloc-cdl plan"
FORMAT_VERSION = 1
PLAN_NAME = "plan.json"
REMEDY = "remove its folder and start over"

JOB_SETTINGS = ("shard_samples", "duplicates")
"""Settings in the preprocessing of a plan or manifest that do not affect single samples."""

UNCOMPARED_FIELDS = ("streaming", "limit", "limit_seed")
"""Fields of a manifest's source that say how samples were chosen; which ones, the fingerprint says."""

MAX_SHARD_SAMPLES = 8192
MAX_SHARD_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Plan:
    """A job's plan as plain JSON values, and the shards that they determine."""

    source: dict[str, Any]
    """Name, counts, fingerprint and the limit, if any, copied into the manifest. For a stream that has not ended, name,
    limit, splits and class names."""
    codec: dict[str, str]
    """Codec id, the number of bit planes, if the latents have any, and the SHA-256 of the codec's files."""
    preprocessing: dict[str, Any]
    """Settings that turn samples into the codec's input, copied into the manifest."""
    engine: dict[str, Any]
    """Kind of device, batch size and versions, which determine the last bits of a code."""
    shards: tuple[PlannedShard, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        header = {"format": FORMAT, "format_version": FORMAT_VERSION}
        return {**header, **asdict(self), "shards": [asdict(shard) for shard in self.shards]}

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the plan, which ties the records of finished shards to it."""
        return sha256_hex(canonical_json(self.to_json()))

    @property
    def num_samples(self) -> int:
        """Number of source samples of all shards."""
        return sum(shard.num_samples for shard in self.shards)

    @property
    def is_stream(self) -> bool:
        """Whether the source is a stream that has not ended; such a plan has no shards."""
        return bool(self.source.get("streaming")) and "fingerprint" not in self.source

    def shard_names(self, names: Iterable[str]) -> list[str]:
        """Return the file names among `names` that are shards of this plan."""
        planned = {shard.name for shard in self.shards}
        return [name for name in names if name in planned or (self.is_stream and self._may_be_shard(name))]

    def _may_be_shard(self, name: str) -> bool:
        found = re.fullmatch(r"(.+)-[0-9]{5,}\.safetensors", name)
        return found is not None and found[1] in self.source["splits"]


def make_plan(source: Source, codec: Codec, preparation: Preparation, config: PrepareConfig) -> Plan:
    """Plan the encoding of `source`.

    Raises `CallError` for a size that the codec cannot encode and for a device that this machine does not have.
    """
    latent_bytes = row_bytes(codec.spec, codec.latent_shape(preparation.shape)[1:]) * max(
        1, len(preparation.view_names)
    )
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
            **codec_identity(codec.spec),
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


def codec_identity(spec: LatentSpec) -> dict[str, str]:
    """Return the codec id and, for latents with bit planes, the number of planes that are stored."""
    planes = {} if spec.planes is None else {"num_planes": str(spec.num_planes)}
    return {"codec_id": spec.codec_id, **planes}


def plan_shards(source: Source, shard_samples: int, first: Mapping[str, int] | None = None) -> tuple[PlannedShard, ...]:
    """Divide the samples of each split into shards, in order; `first`: the number of each split's first shard, or 0."""
    return tuple(
        shard
        for split in source.split_names
        for shard in split_shards(split, source.num_samples(split), shard_samples, (first or {}).get(split, 0))
    )


def split_shards(split: str, num_samples: int, shard_samples: int, first: int = 0) -> Iterator[PlannedShard]:
    """Divide the samples of one split into shards, in order; `first`: the number of its first shard."""
    for number, start, stop in _ranges(num_samples, shard_samples):
        yield PlannedShard(shard_name(split, first + number), split, start, stop)


def save_plan(work: Path, plan: Plan) -> None:
    """Write the plan into the job's work folder."""
    write_atomic(work / PLAN_NAME, encode_json_with_digest(plan.to_json()))


def load_plan(work: Path) -> Plan:
    """Inverse of `save_plan`; raises `DamagedError` for an altered plan and `CallError` for another version's plan."""
    path = work / PLAN_NAME
    values = read_json_with_digest(path, max_bytes=MAX_MANIFEST_BYTES)
    if values.pop("format", None) != FORMAT or values.pop("format_version", None) != FORMAT_VERSION:
        raise CallError(
            f"{path} is not a plan of version {FORMAT_VERSION}; remove the folder, or continue with the version that "
            "wrote it"
        )
    plan = from_json(Plan, values, str(path), remedy=REMEDY)
    if any(not shard.start <= shard.stop for shard in plan.shards):
        raise DamagedError(f"{path}: a shard ends before it begins; {REMEDY}")
    if plan.is_stream:
        require_type(list[str], plan.source.get("splits"), f"{path}, source, splits", remedy=REMEDY)
    return plan


def first_difference(plan: Plan, other: Plan) -> tuple[str, Any, Any] | None:
    """Return the first field in which two plans differ, with both values, or None."""
    return canonical.first_difference(plan.to_json(), other.to_json())


def difference_from_finished(plan: Plan, manifest: Manifest) -> tuple[str, Any, Any] | None:
    """Return the first field in which a finished data set differs from `plan`: field, planned value, stored value.

    Versions and device are not compared, since a finished data set is not encoded again. Counts and fingerprint of a
    stream are not compared, since its plan does not have them.
    """
    files = {name: manifest.files[f"codec/{name}"].sha256 for name in plan.codec if f"codec/{name}" in manifest.files}
    planned_source, stored_source = _comparable_sources(plan, manifest)
    finished = {
        "source": stored_source,
        "codec": {**codec_identity(manifest.spec), **files},
        "preprocessing": manifest.preprocessing,
    }
    planned = {"source": planned_source, "codec": plan.codec, "preprocessing": plan.preprocessing}
    return canonical.first_difference(planned, finished)


def _comparable_sources(plan: Plan, manifest: Manifest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the sources of plan and manifest, with the fields that both have.

    The fingerprint is sufficient where the plan has one, also for a data set that was encoded from a stream.
    """
    if not plan.is_stream:
        planned, stored = (
            {name: value for name, value in source.items() if name not in UNCOMPARED_FIELDS}
            for source in (plan.source, manifest.source)
        )
        return planned, stored
    splits = [split for split in plan.source["splits"] if split in manifest.splits]  # a manifest does not order splits
    splits += [split for split in manifest.splits if split not in splits]
    known = {**manifest.source, "splits": splits, "class_names": manifest.class_names}
    return plan.source, {name: known.get(name) for name in plan.source}


def _ranges(total: int, step: int) -> Iterator[tuple[int, int, int]]:
    for number, start in enumerate(range(0, total, step)):
        yield number, start, min(start + step, total)
