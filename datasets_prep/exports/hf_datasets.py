"""HF `datasets`: a folder that `datasets.load_from_disk` opens, with an Arrow file for each shard.

The files are those that `DatasetDict.save_to_disk` writes, but no copy of the data set is made in the cache.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO

import numpy as np

from datasets_prep.exports.export_format import Part, part_for_each_shard
from datasets_prep.exports.label_columns import label_column, label_feature, label_name
from datasets_prep.folders.verified_read import ShardSamples
from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.errors import CallError
from walloc_cdl.latents import Manifest

BATCH_BYTES = 4 << 20
"""Maximum size of the codes in a record batch; Arrow's lists have 32-bit offsets."""

_SPLIT_NAME = re.compile(r"\w+(\.\w+)*")


class HuggingFaceFormat:
    """A folder for `datasets.load_from_disk`, which returns codes as NumPy arrays."""

    name = "hf"

    def parts(self, manifest: Manifest, splits: Sequence[str]) -> list[Part]:
        """Return a file SPLIT/data-NNNNN.arrow per shard; `CallError` for a split name that `datasets` refuses."""
        for split in splits:
            if not _SPLIT_NAME.fullmatch(split):
                raise CallError(
                    f"split {split!r} has a name that `datasets` refuses (letters, digits, _ and dots between them); "
                    "export it to another format"
                )
        return part_for_each_shard(manifest, splits, "{split}/data-{number:05d}.arrow")

    def write(self, file: BinaryIO, part: Part, manifest: Manifest, samples: Iterable[ShardSamples]) -> None:
        """See `ExportFormat.write`."""
        import pyarrow as pa

        features = _features(manifest)
        schema = features.arrow_schema
        rows = max(1, BATCH_BYTES // math.prod(manifest.layout.sample_shape))
        with pa.ipc.new_stream(file, schema) as writer:
            for shard in samples:
                for start in range(0, len(shard.keys), rows):
                    stop = min(start + rows, len(shard.keys))
                    codes = _nested(np.ascontiguousarray(shard.codes[start:stop]))
                    columns = {
                        "key": pa.array(shard.keys[start:stop], pa.string()),
                        "codes": pa.ExtensionArray.from_storage(schema.field("codes").type, codes),
                    }
                    if shard.labels is not None:
                        labels = manifest.layout.labels
                        columns[label_name(labels)] = label_column(shard.labels[start:stop], labels)
                    writer.write_batch(pa.record_batch([columns[name] for name in schema.names], schema=schema))

    def side_files(self, manifest: Manifest, parts: Sequence[Part]) -> dict[str, bytes]:
        """Return `dataset_dict.json`, and for each split `dataset_info.json` and `state.json`."""
        splits = list(dict.fromkeys(part.split for part in parts))
        info = {"features": _features(manifest).to_dict()}
        files = {"dataset_dict.json": _json({"splits": splits})}
        for split in splits:
            names = [part.name.removeprefix(f"{split}/") for part in parts if part.split == split]
            state = {
                "_data_files": [{"filename": name} for name in names],
                "_fingerprint": sha256_hex(canonical_json([manifest.to_json(), split]))[:16],
                "_format_columns": ["codes"],
                "_format_kwargs": {"dtype": "uint8"},  # without it, `datasets` returns all integers as int64
                "_format_type": "numpy",
                "_output_all_columns": True,
                "_split": split,
            }
            files |= {f"{split}/state.json": _json(state), f"{split}/dataset_info.json": _json(info)}
        return files

    def header(self, parts: Sequence[Part]) -> str:
        """Return an empty header."""
        return ""

    def example(self, manifest: Manifest, part: Part) -> str:
        """See `ExportFormat.example`."""
        return f'import datasets\ncodes = datasets.load_from_disk(".")[{part.split!r}][:8]["codes"]\n'


def _features(manifest: Manifest) -> Any:
    import datasets

    shape = manifest.layout.sample_shape
    features: dict[str, Any] = {"key": {"dtype": "string", "_type": "Value"}}
    if name := label_name(manifest.layout.labels):
        features[name] = label_feature(manifest)
    features["codes"] = {"shape": list(shape), "dtype": "uint8", "_type": f"Array{len(shape)}D"}
    return datasets.Features.from_dict(features)


def _nested(codes: np.ndarray) -> Any:
    """Return the codes (n, …) as an Arrow array of n nested lists that shares their memory."""
    import pyarrow as pa

    array = pa.array(codes.reshape(-1))
    for size in reversed(codes.shape[1:]):
        array = pa.ListArray.from_arrays(pa.array(np.arange(0, len(array) + 1, size, dtype=np.int32)), array)
    return array


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
