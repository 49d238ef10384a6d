"""`provenance.json`: when, on which machine and with which versions a data set was made; it is never compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from walloc_cdl.addresses import local_path
from walloc_cdl.files import write_atomic
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, read_json_with_digest
from walloc_cdl.latents.manifest import PROVENANCE_NAME
from walloc_cdl.schema import require_type

KNOWN_TYPES: dict[str, Any] = {"engine": dict[str, Any], "edits": list[dict[str, Any]]}


def write_provenance(folder: Path | str, fields: dict[str, Any]) -> None:
    """Write plain JSON values with their digest to a file beside the manifest, which does not list it."""
    write_atomic(Path(folder) / PROVENANCE_NAME, encode_json_with_digest(fields))


def load_provenance(folder: Path | str) -> dict[str, Any] | None:
    """Read what `write_provenance` wrote; None if there is no such file.

    Raises `DamagedError` if it was altered, or if a field that this program uses is of another type.
    """
    path = local_path(folder) / PROVENANCE_NAME
    if not path.is_file():
        return None
    fields = read_json_with_digest(path)
    for name in KNOWN_TYPES.keys() & fields.keys():
        require_type(KNOWN_TYPES[name], fields[name], f"{path}, {name}")
    return fields
