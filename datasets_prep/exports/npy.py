"""NumPy: SPLIT-codes.npy, SPLIT-labels.npy (or -targets.npy) and SPLIT-keys.txt, each for a whole split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import BinaryIO

import numpy as np

from datasets_prep.exports.export_format import Part
from datasets_prep.folders.verified_read import ShardSamples
from walloc_cdl.errors import CallError
from walloc_cdl.latents import Manifest

BATCH_SAMPLES = 512
"""Samples that are unpacked and written at a time."""


class NpyFormat:
    """Files for `np.load(…, mmap_mode="r")`; they are written as a stream, so a split need not fit into memory."""

    name = "npy"

    def parts(self, manifest: Manifest, splits: Sequence[str]) -> list[Part]:
        """Return two or three files for each split, codes first."""
        parts = []
        for split in splits:
            shards = tuple(manifest.shards_of(split))
            parts.append(Part(f"{split}-codes.npy", split, shards))
            if tensor := manifest.layout.labels.tensor_name:
                parts.append(Part(f"{split}-{tensor}.npy", split, shards, holds_codes=False))
            parts.append(Part(f"{split}-keys.txt", split, shards, holds_codes=False))
        return parts

    def write(self, file: BinaryIO, part: Part, manifest: Manifest, samples: Iterable[ShardSamples]) -> None:
        """See `ExportFormat.write`; raises `CallError` for a key that contains a line break."""
        labels = manifest.layout.labels
        if part.name.endswith("-codes.npy"):
            _write_header(file, "|u1", (part.num_samples, *manifest.layout.sample_shape))
            for shard in samples:
                for start in range(0, len(shard.keys), BATCH_SAMPLES):
                    codes = shard.codes[start : start + BATCH_SAMPLES]
                    file.write(np.ascontiguousarray(codes).reshape(-1).data)
        elif part.name.endswith(".npy"):
            _write_header(file, labels.dtype.str, (part.num_samples, *labels.sample_shape))
            for shard in samples:
                file.write(np.ascontiguousarray(shard.labels, labels.dtype).reshape(-1).data)
        else:
            for shard in samples:
                file.write("".join(f"{_require_one_line(key)}\n" for key in shard.keys).encode("utf-8"))

    def side_files(self, manifest: Manifest, parts: Sequence[Part]) -> dict[str, bytes]:
        """Return no files."""
        return {}

    def header(self, parts: Sequence[Part]) -> str:
        """Return an empty header."""
        return ""

    def example(self, manifest: Manifest, part: Part) -> str:
        """See `ExportFormat.example`."""
        return f'codes = np.load({f"{part.split}-codes.npy"!r}, mmap_mode="r")[:8]\n'


def _write_header(file: BinaryIO, descr: str, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})


def _require_one_line(key: str) -> str:
    if "\n" in key or "\r" in key:
        raise CallError(
            f"key {key!r} contains a line break, but the keys are written one per line; export to parquet instead"
        )
    return key
