"""`cdl export`: data sets of latents in other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from walloc_cdl.cli.console import progress, report, size_text
from walloc_cdl.cli.options import ContainerName, Folder, JsonPath, LocalFolder, PrefixBytes
from walloc_cdl.errors import CallError


def export(
    folder: Folder,
    out: LocalFolder,
    form: Annotated[
        str | None, typer.Option("--to", metavar="FORM", help="hf, parquet, webdataset or npy, for other programs.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="With --to: export only this split.")] = None,
    archive: Annotated[bool, typer.Option("--archive", help="Write entropy-coded archives, one per sample.")] = False,
    container: ContainerName = None,
    num_bytes: PrefixBytes = None,
    json_path: JsonPath = None,
) -> None:
    """Write a data set in another format.

    Running the same command again resumes it. Archives take about a third of the space, and
    `cdl prepare OUT --archive` restores exactly the same shards from them.
    """
    if archive == (form is not None):
        raise CallError("give either --to hf, parquet, webdataset or npy, or --archive for entropy-coded archives")
    if archive:
        if split is not None:
            raise CallError(
                f"--split {split} cannot be combined with --archive: archives hold the whole data set; omit --split"
            )
        if num_bytes is not None:
            raise CallError(
                f"--bytes {num_bytes} cannot be combined with --archive: archives hold whole samples; `cdl cut` the "
                "data set first"
            )
        _export_archives(folder, out, container, json_path)
        return
    if container is not None:
        raise CallError(f"--container {container} cannot be combined with --to {form}; it is for --archive")
    _export_form(folder, out, form or "", split, num_bytes, json_path)


def _export_form(
    folder: Path, out: Path, form: str, split: str | None, num_bytes: int | None, json_path: Path | None
) -> None:
    """`export --to`."""
    from datasets_prep.exports import export_latents

    with progress("export", "samples") as update:
        splits = None if split is None else [split]
        description = export_latents(folder, out, form, splits=splits, num_bytes=num_bytes, on_samples=update)
    counts = description.about["num_samples"]
    num_bytes = sum(entry.num_bytes for entry in description.files.values())
    rows: dict[str, object] = {"export": str(out), "form": form}
    rows |= {name: f"{count:,} samples" for name, count in counts.items()}
    rows["files"] = f"{len(description.files):,}, {size_text(num_bytes)}; README.md says how to read them"
    payload = {"form": form, "num_samples": counts, "num_files": len(description.files), "num_bytes": num_bytes}
    report(rows, json_path, payload)


def _export_archives(folder: Path, out: Path, container: str | None, json_path: Path | None) -> None:
    """`export --archive`."""
    from datasets_prep.archives.export import export_archives

    with progress("export", "samples") as update:
        description = export_archives(folder, out, container=container, on_samples=update)
    shards = sum(entry.num_bytes for entry in description.manifest.shards)
    archives = sum(path.stat().st_size for split in description.manifest.splits for path in (out / split).rglob("*.*"))
    num = sum(summary.num_samples for summary in description.manifest.splits.values())
    payload = {"num_samples": num, "container": description.container, "shard_bytes": shards, "archive_bytes": archives}
    rows = {
        "archives": str(out),
        "samples": f"{num:,}",
        "container": description.container,
        "size": f"{size_text(archives)}, as shards {size_text(shards)}",
    }
    report(rows, json_path, payload)
