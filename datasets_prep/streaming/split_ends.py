"""How many samples each split of a stream has turned out to have; known once all of its shards are done."""

from __future__ import annotations

from pathlib import Path

from walloc_cdl.errors import DamagedError
from walloc_cdl.files import write_atomic
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, parse_json_with_digest

NAME = "ends.json"


def load_ends(work: Path, digest: str) -> dict[str, int]:
    """By split, of those that came to their end under the plan of this digest."""
    path = work / NAME
    try:
        fields = parse_json_with_digest(path.read_bytes(), origin=str(path))
    except (FileNotFoundError, DamagedError):
        return {}  # the stream is gone through again, which finds the ends
    return fields["num_samples"] if fields.get("plan") == digest else {}


def save_ends(work: Path, digest: str, num_samples: dict[str, int]) -> None:
    """Inverse of `load_ends`."""
    write_atomic(work / NAME, encode_json_with_digest({"plan": digest, "num_samples": num_samples}))
