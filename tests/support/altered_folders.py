"""Folders of data sets, runs and comparisons with one altered file."""

from __future__ import annotations

import io
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from tests.support.mutations import altered_bytes, altered_json, altered_table
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.errors import CdlError
from walloc_cdl.latents import FileEntry, load_manifest, write_manifest


def alter(folder: Path, draw: random.Random) -> str:
    """Alter one file below `folder`; returns what was done.

    Most of the files that a manifest lists get their size and hash in it, since whoever writes such a file can also
    write those.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    originals = [path for path in paths if "copy" not in path.parts]  # second copies matter little
    path = draw.choice(paths if draw.random() < 0.1 else originals)
    name = path.relative_to(folder).as_posix()
    kind = draw.random()
    if kind < 0.03:
        path.unlink()
        return f"{name} removed"
    if kind < 0.06:
        path.unlink()
        path.mkdir()
        return f"{name} a folder"
    data = altered_file(path.read_bytes(), path.suffix, draw)
    path.write_bytes(data)
    if draw.random() < 0.8 and _list(folder, name, data):
        return f"{name} altered and listed"
    return f"{name} altered"


def altered_file(data: bytes, suffix: str, draw: random.Random) -> bytes:
    """Alter the content of a file of this suffix in some bytes, or in what they mean."""
    if suffix == ".json":
        return altered_json(data, draw, sealed='"digest"' in data.decode("utf-8", "replace") and _is_sealed(data))
    if draw.random() < 0.3:
        return altered_bytes(data, draw)
    if suffix == ".parquet":
        sink = io.BytesIO()
        pq.write_table(altered_table(pq.read_table(pa.BufferReader(data)), draw), sink, compression="zstd")
        return sink.getvalue()
    if suffix == ".safetensors":
        return altered_tensors(data, draw)
    return altered_bytes(data, draw)


def _is_sealed(data: bytes) -> bool:
    fields = json.loads(data)
    return isinstance(fields, dict) and "digest" in fields


def _list(folder: Path, name: str, data: bytes) -> bool:
    """Write the size and hash of an altered file into the manifest; whether there is one that lists it."""
    try:
        manifest = load_manifest(folder)
    except (CdlError, OSError):
        return False
    if name in manifest.files:
        files = {**manifest.files, name: FileEntry(len(data), sha256_hex(data))}
        write_manifest(folder, replace(manifest, files=files))
        return True
    listed = [each for each in manifest.shards if each.name == name]
    for entry in listed:
        altered = replace(entry, num_bytes=len(data), sha256=sha256_hex(data))
        shards = [altered if each is entry else each for each in manifest.shards]
        write_manifest(folder, replace(manifest, shards=shards))
    return bool(listed)


def altered_tensors(data: bytes, draw: random.Random) -> bytes:
    """Alter bytes of a safetensors file, the values, shapes and types of its tensors, or its metadata."""
    kind, tensors = draw.random(), load_safetensors(data)
    if kind < 0.4 or not tensors:
        start = 8 + int.from_bytes(data[:8], "little") if draw.random() < 0.5 else len(data)
        return altered_bytes(data[:start], draw) + data[start:]
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = header.get("__metadata__", {}).get("walloc_cdl", "{}")
    if kind < 0.7:
        name = draw.choice(sorted(tensors))
        value = tensors[name]
        changes = [
            lambda t: t[None],
            lambda t: t.double(),
            lambda t: t.long(),
            lambda t: t * float("nan"),
            lambda t: t + float("inf"),
            lambda t: torch.cat([t.reshape(-1), t.reshape(-1)]),
            torch.Tensor.half,
        ]
        tensors[name] = draw.choice(changes)(value).contiguous()
        if draw.random() < 0.2:
            del tensors[name]
    else:
        text = altered_json(text.encode(), draw, sealed=False).decode("utf-8", "replace")
    return save_safetensors(tensors, {draw.choice(("walloc_cdl", "walloc_cdl", "other")): text})


def replaced(folder: Path, original: Path) -> Path:
    """Make `folder` a copy of `original`, whatever is there."""
    shutil.rmtree(folder, ignore_errors=True)
    return shutil.copytree(original, folder)
