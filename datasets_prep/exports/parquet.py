"""Parquet: a file for each shard, with the columns `key`, `label` (or `target`) and `codes`.

Why codes are binary and not lists: lists take 4 bytes per value before compression, and pyarrow, polars and `datasets`
all read them 5 to 15 times slower; `fixed_size_binary` is not smaller and is read at a third to two thirds of the
speed (`docs/exchange.md` has the figures).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO

import numpy as np

from datasets_prep.exports.export_format import Part, part_for_each_shard
from datasets_prep.exports.label_columns import label_column, label_feature, label_name, label_type
from datasets_prep.folders.verified_read import ShardSamples
from walloc_cdl.canonical import canonical_json
from walloc_cdl.latents import Manifest

METADATA_KEY = "walloc_cdl"
ROW_GROUP_BYTES = 8 << 20
"""Maximum size of the codes in a row group, which a reader must load to read one sample."""


class ParquetFormat:
    """Files for programs that read Parquet, such as polars, DuckDB and `datasets`."""

    name = "parquet"

    def parts(self, manifest: Manifest, splits: Sequence[str]) -> list[Part]:
        """Return a file SPLIT-NNNNN.parquet per shard."""
        return part_for_each_shard(manifest, splits, "{split}-{number:05d}.parquet")

    def write(self, file: BinaryIO, part: Part, manifest: Manifest, samples: Iterable[ShardSamples]) -> None:
        """See `ExportFormat.write`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = _schema(manifest, part.split)
        rows = max(1, ROW_GROUP_BYTES // math.prod(manifest.layout.sample_shape))
        with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer:
            for shard in samples:
                for start in range(0, len(shard.keys), rows):
                    stop = min(start + rows, len(shard.keys))
                    columns = {"key": pa.array(shard.keys[start:stop], pa.string())}
                    if shard.labels is not None:
                        labels = manifest.layout.labels
                        columns[label_name(labels)] = label_column(shard.labels[start:stop], labels)
                    columns["codes"] = _binary(np.ascontiguousarray(shard.codes[start:stop]))
                    writer.write_table(pa.table([columns[field] for field in schema.names], schema=schema))

    def side_files(self, manifest: Manifest, parts: Sequence[Part]) -> dict[str, bytes]:
        """Return no files, since the schemas are in the Parquet files."""
        return {}

    def header(self, parts: Sequence[Part]) -> str:
        """Return the splits as YAML metadata, which `datasets.load_dataset` and the Hub read from README.md."""
        splits = dict.fromkeys(part.split for part in parts)
        lines = ["---", "configs:", "- config_name: default", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {json.dumps(split)}", f"    path: {json.dumps(split + '-[0-9]*.parquet')}"]
        return "\n".join([*lines, "---", "", ""])

    def example(self, manifest: Manifest, part: Part) -> str:
        """See `ExportFormat.example`."""
        return (
            "import pyarrow.parquet as pq\n"
            f"rows = pq.ParquetFile({part.name!r}).read_row_group(0).slice(0, 8)\n"
            'codes = np.frombuffer(b"".join(rows["codes"].to_pylist()), np.uint8)\n'
            f"codes = codes.reshape(-1, {', '.join(map(str, manifest.layout.sample_shape))})\n"
        )


def _schema(manifest: Manifest, split: str) -> Any:
    import pyarrow as pa

    labels = manifest.layout.labels
    fields = [("key", pa.string())]
    features: dict[str, Any] = {"key": {"dtype": "string", "_type": "Value"}}
    if name := label_name(labels):
        fields.append((name, label_type(labels)))
        features[name] = label_feature(manifest)
    fields.append(("codes", pa.binary()))
    sample_info = {"sample_shape": list(manifest.layout.sample_shape), "spec": manifest.spec.to_json(), "split": split}
    features["codes"] = {"dtype": "binary", "_type": "Value"}
    metadata = {
        METADATA_KEY: canonical_json(sample_info),
        "huggingface": canonical_json({"info": {"features": features}}),
    }
    return pa.schema(fields, metadata=metadata)


def _binary(codes: np.ndarray) -> Any:
    """Return a column of binary values that shares the codes' memory."""
    import pyarrow as pa

    sample_bytes = math.prod(codes.shape[1:])
    offsets = np.arange(len(codes) + 1, dtype=np.int32) * np.int32(sample_bytes)
    return pa.Array.from_buffers(
        pa.binary(), len(codes), [None, pa.py_buffer(offsets), pa.py_buffer(codes.reshape(-1))]
    )
