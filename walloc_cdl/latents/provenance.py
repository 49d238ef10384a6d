"""`provenance.json`: when, on what and with which versions a data set was made; never compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from walloc_cdl.files import write_atomic
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, parse_json_with_digest
from walloc_cdl.latents.manifest import PROVENANCE_NAME


def write_provenance(folder: Path | str, fields: dict[str, Any]) -> None:
    """Write plain JSON values, sealed by their digest, beside the manifest, which does not list them."""
    write_atomic(Path(folder) / PROVENANCE_NAME, encode_json_with_digest(fields))


def load_provenance(folder: Path | str) -> dict[str, Any] | None:
    """What `write_provenance` wrote, or None where there is none; `DamagedError` if it was altered."""
    path = Path(folder) / PROVENANCE_NAME
    if not path.is_file():
        return None
    return parse_json_with_digest(path.read_bytes(), origin=str(path))
