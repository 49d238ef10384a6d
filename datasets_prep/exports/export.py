"""`cdl export --to FORM`: file after file, each written whole; the description comes last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from datasets_prep.exports.arrays import NpyForm
from datasets_prep.exports.arrow import HuggingFaceForm
from datasets_prep.exports.description import DESCRIPTION_NAME, ExportDescription, about, identity, load_export
from datasets_prep.exports.form import Form, Part
from datasets_prep.exports.parquet import ParquetForm
from datasets_prep.exports.readme import readme
from datasets_prep.exports.tars import WebDatasetForm
from datasets_prep.folders.derived_folder import begin, copy_files, end
from datasets_prep.folders.verified_read import ShardSamples, read_verified_shard
from datasets_prep.job.output import CODEC_FOLDER
from walloc_cdl.canonical import sha256_file
from walloc_cdl.errors import CallError, unknown_name
from walloc_cdl.files import open_atomic, write_atomic
from walloc_cdl.latents import FileEntry, Manifest, load_manifest

FORMS: dict[str, Form] = {form.name: form for form in (HuggingFaceForm(), ParquetForm(), WebDatasetForm(), NpyForm())}

README_NAME = "README.md"

OnSamples = Callable[[int, int], object]
"""Called with (done, total) numbers of samples."""


def export_latents(
    folder: Path, out: Path, form: str, *, splits: Sequence[str] | None = None, on_samples: OnSamples | None = None
) -> ExportDescription:
    """Write splits of the data set `folder` (all by default) to `out` in a form of `FORMS`.

    The same call again goes on with what an interrupted one left, and leaves a finished export as it is. Every
    sample is held against its checksum. Raises `CallError` for an unknown form or split, a folder that is no data
    set, samples that differ in size and an `out` that holds anything else, `DamagedError` for damaged samples.
    """
    if form not in FORMS:
        raise unknown_name("form", form, FORMS, f"choose one of {', '.join(FORMS)}")
    manifest = load_manifest(folder)
    if manifest.layout.ragged:
        raise CallError(f"samples of {folder} differ in size, and exports hold samples of one size; read its shards")
    chosen = _choose_splits(folder, manifest, splits)
    parts = FORMS[form].parts(manifest, chosen)
    mine = identity(manifest, form, chosen)
    if (out / DESCRIPTION_NAME).is_file():
        found = load_export(out)
        if found.identity != mine:
            raise CallError(f"{out} holds an export of another data set, form or split; give a new folder")
        end(out)
        return found
    begin(out, {"job": "export", **mine})
    _write_parts(folder, out, manifest, FORMS[form], parts, on_samples)
    codec = {name: entry for name, entry in manifest.files.items() if name.startswith(f"{CODEC_FOLDER}/")}
    copy_files(folder, out, codec)
    small = {**FORMS[form].side_files(manifest, parts), README_NAME: readme(manifest, FORMS[form], parts)}
    for name, data in small.items():
        write_atomic(out / name, data)
    names = [*(part.name for part in parts), *codec, *small]
    files = {name: FileEntry((out / name).stat().st_size, sha256_file(out / name)) for name in names}
    description = ExportDescription(mine, about(manifest, chosen), files)
    write_atomic(out / DESCRIPTION_NAME, description.to_bytes())
    end(out)
    return description


def _choose_splits(folder: Path, manifest: Manifest, splits: Sequence[str] | None) -> list[str]:
    if not manifest.splits:
        raise CallError(f"{folder} has no splits, so there is nothing to export")
    if splits is None:
        return sorted(manifest.splits)
    for split in splits:
        if split not in manifest.splits:
            raise unknown_name("split", split, manifest.splits, f"{folder} has {', '.join(manifest.splits) or 'none'}")
    return sorted(set(splits))


def _write_parts(
    folder: Path, out: Path, manifest: Manifest, form: Form, parts: Sequence[Part], on_samples: OnSamples | None
) -> None:
    """Write the files that are not there yet: what has its name is whole."""
    total = sum(part.num_samples for part in parts if part.holds_codes)
    done = 0

    def samples(part: Part) -> Iterator[ShardSamples]:
        nonlocal done
        for entry in part.shards:
            yield read_verified_shard(folder, manifest, entry, checksums=part.holds_codes)
            if part.holds_codes:
                done += entry.num_samples
                if on_samples:
                    on_samples(done, total)

    for part in parts:
        path = out / part.name
        if path.is_file():
            done += part.num_samples if part.holds_codes else 0
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_atomic(path) as file:
            form.write(file, part, manifest, samples(part))
