"""`cdl inspect`, `verify`, `preview` and `export`: data sets of latents."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from walloc_cdl.cli.codec import ContainerName
from walloc_cdl.cli.console import (
    JsonPath,
    LocalFolder,
    Seed,
    interruptible,
    progress,
    report,
    require_parent,
    size_text,
    write_json,
)
from walloc_cdl.cli.contents import contents, latents_text, split_names
from walloc_cdl.errors import CallError

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the data set.")]


def export(
    folder: Folder,
    out: LocalFolder,
    form: Annotated[
        str | None, typer.Option("--to", metavar="FORM", help="hf, parquet, webdataset or npy: for other programs.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="With --to: only this split.")] = None,
    archive: Annotated[bool, typer.Option("--archive", help="Write entropy-coded archives, one a sample.")] = False,
    container: ContainerName = None,
    json_path: JsonPath = None,
) -> None:
    """Write a data set in another form.

    The same command again resumes it. As archives it takes about a third of the space, and
    `cdl prepare OUT --archive` makes the same shards again.
    """
    if archive == (form is not None):
        raise CallError("give either --to hf, parquet, webdataset or npy, or --archive for entropy-coded archives")
    if archive:
        if split is not None:
            raise CallError(f"--split {split} does not go with --archive: archives give back the data set as it was")
        _export_archives(folder, out, container, json_path)
        return
    if container is not None:
        raise CallError(f"--container {container} does not go with --to {form}; it is for --archive")
    _export_form(folder, out, form or "", split, json_path)


def _export_form(folder: Path, out: Path, form: str, split: str | None, json_path: Path | None) -> None:
    """`export --to`."""
    from datasets_prep.exports import export_latents

    with interruptible(), progress("export", "samples") as update:
        description = export_latents(folder, out, form, splits=None if split is None else [split], on_samples=update)
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


def inspect(folder: Folder, json_path: JsonPath = None) -> None:
    """Print what a data set holds."""
    from walloc_cdl.latents import channel_statistics, load_manifest

    manifest = load_manifest(folder)
    spec = manifest.spec
    low, high = spec.byte_range
    rows: dict[str, object] = {
        "data set": str(folder),
        "codec id": spec.codec_id[:16],
        "latents": latents_text(manifest.latent_shape, manifest.views)
        + f", {spec.bits} bits, companding {spec.companding}",
        "source": f"{spec.source_channels} channels, stride {spec.stride}, {spec.reduction():g} times fewer values"
        + (f", {spec.sample_rate} Hz" if spec.sample_rate else ""),
        "labels": manifest.label_kind,
        "classes": ", ".join(manifest.class_names) if manifest.class_names else "none",
    }
    if manifest.target_names:
        rows["targets"] = ", ".join(manifest.target_names)
    rows |= contents(manifest)
    split = split_names(manifest)[0]
    histogram = manifest.histograms[split]
    if histogram.any():
        statistics = channel_statistics(histogram, spec)
        saturated = histogram[:, [low, high]].sum() / histogram.sum()
        rows[f"channel std ({split})"] = " ".join(f"{value:.3g}" for value in statistics.std)
        rows[f"codes at the limits ({split})"] = f"{saturated:.2%}"
    report(rows, json_path, manifest.to_json())


def verify(
    folder: Folder,
    full: Annotated[bool, typer.Option("--full", help="Read every byte: hashes, checksums, histograms.")] = False,
    json_path: JsonPath = None,
) -> None:
    """Check that a data set is undamaged; exit code 1 if not."""
    from walloc_cdl.latents import verify as check

    with progress("verify", "files") as update:
        result = check(folder, full=full, progress=update)
    for problem in result.problems:
        print(problem)
    extent = "every byte" if full else "manifest, sizes, copies, labels and keys; --full reads every byte"
    state = "damaged" if result.problems else "whole"
    print(f"{folder}: {state} ({result.num_files} files, {size_text(result.num_bytes)}; checked {extent})")
    write_json(json_path, asdict(result))
    if result.problems:
        raise typer.Exit(1)


def preview(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Picture to write.", callback=require_parent)] = Path("preview.png"),
    source: Annotated[
        str | None, typer.Option(help="The source, to show its images beside the decoded latents.")
    ] = None,
    num: Annotated[int, typer.Option(help="How many samples.", min=1)] = 12,
    split: Annotated[str | None, typer.Option(help="Split to show; by default train, or the first.")] = None,
    seed: Seed = 0,
) -> None:
    """Draw source images beside their decoded latents.

    The source's stand at the left. Of stored views the first eight are drawn, the evaluation crop before the others.
    """
    from PIL import Image

    from datasets_prep.preview import contact_sheet
    from datasets_prep.sources import open_source

    if Image.registered_extensions().get(out.suffix.lower()) not in Image.SAVE:
        raise CallError(f"{out} does not say what kind of picture to write; end its name in .png or .jpg")
    images = None if source is None else open_source(source)
    sheet = contact_sheet(folder, source=images, num=num, split=split, seed=seed)
    sheet.save(out)
    print(f"{out}: {sheet.width}x{sheet.height}")


COMMANDS = {"inspect": inspect, "verify": verify, "preview": preview, "export": export}
