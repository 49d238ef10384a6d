"""Saves the number of samples of each split of a stream, which is known when all of its shards are done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from walloc_cdl.errors import DamagedError
from walloc_cdl.files import write_atomic
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, read_json_with_digest
from walloc_cdl.schema import Count, from_json

FILE_NAME = "ends.json"


def load_split_sizes(work: Path, digest: str) -> dict[str, int]:
    """Return the number of samples of each completed split, if it was saved under the plan with this digest."""
    path = work / FILE_NAME
    try:
        stored = from_json(_StoredSizes, read_json_with_digest(path), str(path))
    except (FileNotFoundError, DamagedError):
        return {}  # the stream is read again, which determines the sizes
    return stored.num_samples if stored.plan == digest else {}


@dataclass(frozen=True)
class _StoredSizes:
    """The fields of the file."""

    plan: str
    num_samples: dict[str, Count]


def save_split_sizes(work: Path, digest: str, num_samples: dict[str, int]) -> None:
    """Inverse of `load_split_sizes`."""
    write_atomic(work / FILE_NAME, encode_json_with_digest({"plan": digest, "num_samples": num_samples}))
