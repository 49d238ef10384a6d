"""`cdl inspect` and `verify`: the contents of a data set of latents, and whether it is intact."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from walloc_cdl.cli.console import progress, report, show, size_text, write_json
from walloc_cdl.cli.contents import contents, latents_text, split_names
from walloc_cdl.cli.options import Folder, JsonPath


def inspect(folder: Folder, json_path: JsonPath = None) -> None:
    """Print the contents of a data set."""
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
    """Check that a data set is intact; exit code 1 if it is not."""
    from walloc_cdl.latents import verify as check

    with progress("verify", "files") as update:
        result = check(folder, full=full, progress=update)
    for problem in result.problems:
        show(problem)
    extent = "every byte" if full else "manifest, sizes, copies, labels and keys; --full reads every byte"
    state = "damaged" if result.problems else "intact"
    show(f"{folder}: {state} ({result.num_files} files, {size_text(result.num_bytes)}; checked {extent})")
    write_json(json_path, asdict(result))
    if result.problems:
        raise typer.Exit(1)
