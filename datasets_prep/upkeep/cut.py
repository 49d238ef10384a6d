"""`cdl cut`: makes a smaller data set, of the first bit planes of every stored row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets_prep.folders.derived_folder import copy_files, derive
from datasets_prep.upkeep.derive import Derivation, InputDataSet, find_derived
from datasets_prep.upkeep.edit import note_edit
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.files import write_atomic
from walloc_cdl.latents import (
    LEDGER_NAME,
    FileEntry,
    Manifest,
    ShardEntry,
    load_manifest,
    manifest_bytes,
    write_manifest,
)
from walloc_cdl.linear.operators import FILE_PATH as OPERATORS_PATH
from walloc_cdl.linear.operators import operators_to_bytes
from walloc_cdl.linear.synthesis import FILE_NAME as SYNTHESIS_NAME
from walloc_cdl.linear.synthesis import synthesis_to_bytes
from walloc_cdl.planes.rows import planes_for_bytes, planes_for_rate

SYNTHESIS_PATH = f"codec/{SYNTHESIS_NAME}"


def cut(
    folder: Path,
    out: Path,
    *,
    num_bytes: int | None = None,
    bpp: float | None = None,
    on_shard: Callable[[int, int], object] | None = None,
) -> Manifest:
    """Make the data set `out` of the first bit planes of every row of `folder`, everything else kept.

    The budget, `num_bytes` of each view of a sample or `bpp`, bits a pixel or a time step, is rounded down to whole
    planes. Rows are those of a data set that is prepared at that budget. The codec is the same, and the linear
    synthesis and the operators are those of the larger set, with the means of the channels that the rows lack. The
    same call again resumes an interrupted one.

    Raises `CallError` for both budgets or none, bytes where samples differ in size, latents without bit planes or with
    fewer planes, and for an `out` that holds anything else or that another process works on; `DamagedError` for damaged
    data sets.
    """
    manifest = load_manifest(folder)
    count = num_planes_within(manifest, num_bytes, bpp)
    source = {**manifest.source, "num_planes": count, "of": sha256_hex(manifest_bytes(manifest))}
    return derive(
        out,
        {"job": "cut", "source": source},
        lambda: find_derived(out, source),
        lambda: _write(folder, with_planes(replace(manifest, source=source), count), out, on_shard),
    )


def num_planes_within(manifest: Manifest, num_bytes: int | None, bpp: float | None) -> int:
    """Return the number of bit planes of a data set that fit into a budget; raises `CallError` as `cut` does."""
    if (num_bytes is None) == (bpp is None):
        raise CallError("give the budget either in bytes a sample (--bytes) or in bits a pixel (--bpp)")
    if bpp is not None:
        return planes_for_rate(manifest.spec, bpp)
    if manifest.layout.ragged or manifest.spec.kind == "audio":
        where = "sound" if manifest.spec.kind == "audio" else "geometry ragged, where samples differ in size"
        raise CallError(f"bytes is {num_bytes:,} with {where}; give the budget in bits a pixel or time step: --bpp")
    return planes_for_bytes(manifest.spec, manifest.layout.grid, num_bytes or 0)


def with_planes(manifest: Manifest, num_planes: int) -> Manifest:
    """Return the manifest with the spec and the latent shape of the first bit planes; the rest is not changed."""
    layout = manifest.layout.with_planes(num_planes)
    return replace(manifest, spec=layout.spec, latent_shape=layout.latent_shape)


def _write(folder: Path, described: Manifest, out: Path, on_shard: Callable[[int, int], object] | None) -> Manifest:
    """Write the smaller data set; `described` is its manifest without what `Derivation` adds."""
    whole, splits = load_manifest(folder), list(described.splits)

    def assign(number: int, entry: ShardEntry) -> np.ndarray:
        return np.full(entry.num_samples, splits.index(entry.split), np.int64)

    manifest = Derivation([InputDataSet(folder, whole)], described, splits, assign).write(out, on_shard)
    manifest = copy_codec(folder, out, manifest)
    note_edit(folder, out, "cut", num_planes=described.spec.num_planes)
    write_manifest(out, manifest)
    return manifest


def copy_codec(folder: Path, out: Path, manifest: Manifest) -> Manifest:
    """Copy the files of the data set `folder` except for shards and ledger into `out`, the new data set of `manifest`.

    Returns that manifest, with the entries of the linear synthesis and of the operators, which are cut to the channels
    of the new data set.
    """
    files = {name: entry for name, entry in manifest.files.items() if name != LEDGER_NAME}
    whole, spec = load_manifest(folder), manifest.spec
    if spec.latent_channels == whole.spec.latent_channels:
        copy_files(folder, out, files)
        return manifest
    prefix = open_latents(folder, next(iter(whole.splits)), num_planes=spec.num_planes)
    made = {
        SYNTHESIS_PATH: lambda: synthesis_to_bytes(prefix.synthesis_bank),
        OPERATORS_PATH: lambda: operators_to_bytes(prefix.operators),
    }
    copy_files(folder, out, {name: entry for name, entry in files.items() if name not in made})
    entries = dict(manifest.files)
    for name in files.keys() & made.keys():
        data = made[name]()
        write_atomic(out / name, data)
        entries[name] = FileEntry(len(data), sha256_hex(data))
    return replace(manifest, files=entries)
