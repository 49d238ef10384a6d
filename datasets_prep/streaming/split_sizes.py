"""Saves the number of samples of each split of a stream, which is known when all of its shards are done."""

from __future__ import annotations

from pathlib import Path

from walloc_cdl.errors import DamagedError
from walloc_cdl.files import write_atomic
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, read_json_with_digest

FILE_NAME = "ends.json"


def load_split_sizes(work: Path, digest: str) -> dict[str, int]:
    """Return the number of samples of each completed split, if it was saved under the plan with this digest."""
    path = work / FILE_NAME
    try:
        fields = read_json_with_digest(path)
    except (FileNotFoundError, DamagedError):
        return {}  # the stream is read again, which determines the sizes
    return fields["num_samples"] if fields.get("plan") == digest else {}


def save_split_sizes(work: Path, digest: str, num_samples: dict[str, int]) -> None:
    """Inverse of `load_split_sizes`."""
    write_atomic(work / FILE_NAME, encode_json_with_digest({"plan": digest, "num_samples": num_samples}))
