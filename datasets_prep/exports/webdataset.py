"""WebDataset: a tar for each shard; a sample is NAME.codes.npy, NAME.cls (for class numbers) and NAME.json."""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from datasets_prep.exports.export_format import Part, part_for_each_shard
from datasets_prep.exports.label_columns import label_name
from datasets_prep.folders.verified_read import ShardSamples
from walloc_cdl.fields import sanitize_path_part
from walloc_cdl.latents import Manifest

STEM_LENGTH = 60
"""With the number and the longest suffix, a name has at most the 100 characters of the oldest tar header."""


class WebDatasetFormat:
    """Tars for the `webdataset` package and other programs that read tars sequentially."""

    name = "webdataset"

    def parts(self, manifest: Manifest, splits: Sequence[str]) -> list[Part]:
        """Return a file SPLIT-NNNNN.tar per shard."""
        return part_for_each_shard(manifest, splits, "{split}-{number:05d}.tar")

    def write(self, file: BinaryIO, part: Part, manifest: Manifest, samples: Iterable[ShardSamples]) -> None:
        """See `ExportFormat.write`; the same samples give the same bytes."""
        header = npy_header(manifest.layout.sample_shape)
        labels = manifest.layout.labels
        number = part.start
        with tarfile.open(fileobj=file, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
            for shard in samples:
                for row, key in enumerate(shard.keys):
                    name = sample_name(number, key)
                    number += 1
                    codes = np.ascontiguousarray(shard.codes[row])
                    _add(tar, f"{name}.codes.npy", header + codes.tobytes())
                    fields: dict[str, Any] = {"key": key}
                    if shard.labels is not None and labels.kind == "class":
                        _add(tar, f"{name}.cls", str(int(shard.labels[row])).encode())
                    elif shard.labels is not None:
                        fields[label_name(labels) or ""] = _plain_numbers(shard.labels[row])
                    _add(tar, f"{name}.json", json.dumps(fields, allow_nan=False).encode())

    def side_files(self, manifest: Manifest, parts: Sequence[Part]) -> dict[str, bytes]:
        """Return no files."""
        return {}

    def header(self, parts: Sequence[Part]) -> str:
        """Return an empty header."""
        return ""

    def example(self, manifest: Manifest, part: Part) -> str:
        """See `ExportFormat.example`."""
        return (
            "import itertools\n"
            "import webdataset as wds\n"
            f'samples = wds.WebDataset({part.name!r}, shardshuffle=False).decode().to_tuple("codes.npy")\n'
            "codes = np.stack([array for (array,) in itertools.islice(samples, 8)])\n"
        )


def sample_name(number: int, key: str) -> str:
    """Return the name that a sample's members share: its number in the split and its key in plain characters.

    The name has no dots: readers take the text after the first dot for the type of a member, and consecutive members
    of equal name for one sample.

    >>> sample_name(7, "cats/été 1.v2.jpg")
    '00000007-_t__1_v2'
    """
    return f"{number:08d}-{sanitize_path_part(PurePosixPath(key).stem)[:STEM_LENGTH].replace('.', '_')}"


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Return the header of a .npy file that holds a uint8 array of this shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _plain_numbers(label: np.ndarray) -> Any:
    """Return a number or a list of numbers for JSON, which has null in place of NaN."""
    values = label.tolist()
    if isinstance(values, list):
        return [None if math.isnan(value) else value for value in values]
    return None if math.isnan(values) else values


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
