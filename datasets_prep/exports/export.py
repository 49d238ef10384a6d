"""`cdl export --to FORM`: files are written one after the other, each atomically, and the description last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets_prep.exports.description import (
    DESCRIPTION_NAME,
    ExportDescription,
    export_contents,
    export_identity,
    load_export,
)
from datasets_prep.exports.export_format import ExportFormat, Part
from datasets_prep.exports.hf_datasets import HuggingFaceFormat
from datasets_prep.exports.npy import NpyFormat
from datasets_prep.exports.parquet import ParquetFormat
from datasets_prep.exports.readme import readme
from datasets_prep.exports.webdataset import WebDatasetFormat
from datasets_prep.folders.derived_folder import copy_files, derive
from datasets_prep.folders.verified_read import ShardSamples, read_verified_shard
from datasets_prep.job.output import CODEC_FOLDER
from walloc_cdl.canonical import sha256_file
from walloc_cdl.errors import CallError, unknown_name
from walloc_cdl.files import make_folder, open_atomic, write_atomic
from walloc_cdl.latents import FileEntry, Manifest, load_manifest
from walloc_cdl.latents.packing import load_levels
from walloc_cdl.latents.statistics import prefix_histogram
from walloc_cdl.linear.operators import FILE_PATH as OPERATORS_PATH
from walloc_cdl.linear.synthesis import FILE_NAME as SYNTHESIS_NAME
from walloc_cdl.planes.rows import planes_for_bytes

EXPORT_FORMATS: dict[str, ExportFormat] = {
    export_format.name: export_format
    for export_format in (HuggingFaceFormat(), ParquetFormat(), WebDatasetFormat(), NpyFormat())
}

README_NAME = "README.md"

OnSamples = Callable[[int, int], object]
"""Called with (done, total) numbers of samples."""


def export_latents(
    folder: Path,
    out: Path,
    format_name: str,
    *,
    splits: Sequence[str] | None = None,
    num_bytes: int | None = None,
    on_samples: OnSamples | None = None,
) -> ExportDescription:
    """Write splits of the data set `folder` (all by default) to `out` in one of the `EXPORT_FORMATS`.

    Of latents with bit planes, `num_bytes` selects a prefix, rounded down to whole planes; it has no linear synthesis.
    The same call again resumes an interrupted export, and does not change a finished one. Every sample is compared
    with its checksum. Raises `CallError` for an unknown format or split, a folder that is not a data set, samples that
    differ in size and an `out` that holds anything else or that another process works on, `DamagedError` for damaged
    samples.
    """
    if format_name not in EXPORT_FORMATS:
        raise unknown_name("export format", format_name, EXPORT_FORMATS, f"choose one of {', '.join(EXPORT_FORMATS)}")
    export_format = EXPORT_FORMATS[format_name]
    manifest = load_manifest(folder)
    if manifest.layout.ragged:
        raise CallError(
            f"samples of {folder} differ in size, but exports hold samples of one size; read the shards instead"
        )
    selected = _select_splits(folder, manifest, splits)
    described = manifest
    if num_bytes is not None:
        described = _with_planes(manifest, planes_for_bytes(manifest.spec, manifest.layout.grid, num_bytes))
    parts = export_format.parts(described, selected)
    identity = export_identity(described, format_name, selected)

    def find() -> ExportDescription | None:
        if not (out / DESCRIPTION_NAME).is_file():
            return None
        if (found := load_export(out)).identity != identity:
            raise CallError(f"{out} holds an export of another data set, format or split; give a new folder")
        return found

    def make() -> ExportDescription:
        _write_parts(folder, out, described, export_format, parts, on_samples)
        return _write_rest(folder, out, described, export_format, parts, identity)

    return derive(out, {"job": "export", **identity}, find, make)


def _with_planes(manifest: Manifest, num_planes: int) -> Manifest:
    """Return the manifest of the first bit planes, without synthesis and operators, which are of all of them."""
    layout = manifest.layout.with_planes(num_planes)
    fitted = (f"{CODEC_FOLDER}/{SYNTHESIS_NAME}", OPERATORS_PATH)
    files = {name: entry for name, entry in manifest.files.items() if name not in fitted}
    histograms = {
        split: prefix_histogram(histogram, manifest.spec, layout.spec)
        for split, histogram in manifest.histograms.items()
    }
    return replace(manifest, spec=layout.spec, latent_shape=layout.latent_shape, files=files, histograms=histograms)


def _write_rest(
    folder: Path,
    out: Path,
    manifest: Manifest,
    export_format: ExportFormat,
    parts: Sequence[Part],
    identity: dict[str, Any],
) -> ExportDescription:
    """Write the codec, the small files and, last, the description, which is returned."""
    codec = {name: entry for name, entry in manifest.files.items() if name.startswith(f"{CODEC_FOLDER}/")}
    copy_files(folder, out, codec)
    side_files = {**export_format.side_files(manifest, parts), README_NAME: readme(manifest, export_format, parts)}
    for name, data in side_files.items():
        write_atomic(out / name, data)
    names = [*(part.name for part in parts), *codec, *side_files]
    files = {name: FileEntry((out / name).stat().st_size, sha256_file(out / name)) for name in names}
    about = export_contents(manifest, identity["splits"], load_levels(folder, manifest))
    description = ExportDescription(identity, about, files)
    write_atomic(out / DESCRIPTION_NAME, description.to_bytes())
    return description


def _select_splits(folder: Path, manifest: Manifest, splits: Sequence[str] | None) -> list[str]:
    if not manifest.splits:
        raise CallError(f"{folder} has no splits, so there is nothing to export")
    if splits is None:
        return sorted(manifest.splits)
    for split in splits:
        if split not in manifest.splits:
            raise unknown_name("split", split, manifest.splits, f"{folder} has {', '.join(manifest.splits) or 'none'}")
    return sorted(set(splits))


def _write_parts(
    folder: Path,
    out: Path,
    manifest: Manifest,
    export_format: ExportFormat,
    parts: Sequence[Part],
    on_samples: OnSamples | None,
) -> None:
    """Write the files that do not exist yet; since writes are atomic, existing files are complete."""
    total = sum(part.num_samples for part in parts if part.holds_codes)
    done, whole = 0, load_manifest(folder)

    def samples(part: Part) -> Iterator[ShardSamples]:
        nonlocal done
        for entry in part.shards:
            yield read_verified_shard(
                folder, whole, entry, checksums=part.holds_codes, num_planes=manifest.spec.num_planes
            )
            if part.holds_codes:
                done += entry.num_samples
                if on_samples:
                    on_samples(done, total)

    for part in parts:
        path = out / part.name
        if path.is_file():
            done += part.num_samples if part.holds_codes else 0
            continue
        make_folder(path.parent)
        with open_atomic(path) as file:
            export_format.write(file, part, manifest, samples(part))
