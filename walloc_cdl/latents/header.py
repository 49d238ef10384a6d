"""The header of a shard, byte for byte as the safetensors package writes it."""

from __future__ import annotations

import json

from walloc_cdl.canonical import canonical_json
from walloc_cdl.latents.layout import TYPES, TensorLayout
from walloc_cdl.latents.manifest import FORMAT_VERSION
from walloc_cdl.spec import LatentSpec

METADATA_KEY = "walloc_cdl"
"""The only metadata key: if there are several, the safetensors package writes them in random order."""

_ALIGNMENT = 8


def shard_metadata(spec: LatentSpec, split: str) -> dict[str, str]:
    """Return the required value of the header's `__metadata__`."""
    fields = {"format_version": FORMAT_VERSION, "spec": spec.to_json(), "split": split}
    return {METADATA_KEY: canonical_json(fields).decode("utf-8")}


def header_bytes(metadata: dict[str, str], tensors: dict[str, TensorLayout]) -> bytes:
    """Return the first bytes of a file with these tensors in this order: the header's length and the padded header."""
    names = {dtype: name for name, dtype in TYPES.items()}
    header: dict[str, object] = {"__metadata__": metadata}
    position = 0
    for name, tensor in tensors.items():
        end = position + tensor.num_bytes
        header[name] = {"dtype": names[tensor.dtype], "shape": tensor.shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
