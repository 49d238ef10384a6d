"""`cdl inspect` and `verify`: the contents of a data set of latents, and whether it is intact."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from walloc_cdl.cli.console import progress, report, show, size_text, write_json
from walloc_cdl.cli.contents import contents, latents_text, split_names
from walloc_cdl.cli.options import Folder, JsonPath, PrefixBytes
from walloc_cdl.cli.planes import plane_texts
from walloc_cdl.planes.table import plane_table

if TYPE_CHECKING:
    from walloc_cdl.latents import Manifest

MAX_CONFIG_BYTES = 2**20
"""More than the configuration of a codec with all bit planes has."""


def inspect(folder: Folder, num_bytes: PrefixBytes = None, json_path: JsonPath = None) -> None:
    """Print the contents of a data set.

    Of latents with bit planes, bytes, bits and the expected PSNR of some prefixes are shown, or of that with --bytes.
    """
    from walloc_cdl.latents import channel_statistics, load_manifest
    from walloc_cdl.latents.packing import load_levels

    manifest = load_manifest(folder)
    spec = manifest.spec
    low, high = spec.byte_range
    rows: dict[str, object] = {
        "data set": str(folder),
        "codec id": spec.codec_id[:16],
        "latents": latents_text(manifest.latent_shape, manifest.views) + f", {_form_text(manifest)}",
        "source": f"{spec.source_channels} channels, stride {spec.stride}, {spec.reduction():g} times fewer values"
        + (f", {spec.sample_rate} Hz" if spec.sample_rate else ""),
        "labels": manifest.label_kind,
        "classes": ", ".join(manifest.class_names) if manifest.class_names else "none",
    }
    if manifest.target_names:
        rows["targets"] = ", ".join(manifest.target_names)
    rows |= contents(manifest)
    payload = manifest.to_json()
    if spec.planes is not None or num_bytes is not None:
        table = _prefixes(folder, manifest, num_bytes)
        payload["prefixes"] = table
        rows |= plane_texts(spec, table)
    split = split_names(manifest)[0]
    histogram = manifest.histograms[split]
    if histogram.any():
        statistics = channel_statistics(histogram, spec, load_levels(folder, manifest))
        saturated = histogram[:, [low, high]].sum() / histogram.sum()
        rows[f"channel std ({split})"] = " ".join(f"{value:.3g}" for value in statistics.std)
        if spec.planes is None:
            rows[f"codes at the limits ({split})"] = f"{saturated:.2%}"
    report(rows, json_path, payload)


def _prefixes(folder: Path, manifest: Manifest, num_bytes: int | None) -> list[dict[str, Any]]:
    """Return bytes, bits and expected PSNR of prefixes of a data set's planes, or of the one of `num_bytes`."""
    from walloc_cdl.errors import CallError
    from walloc_cdl.planes.rows import planes_for_bytes

    spec, grid = manifest.spec, None if manifest.layout.ragged else manifest.layout.grid
    if num_bytes is not None and grid is None:
        raise CallError(f"--bytes {num_bytes:,} with samples that differ in size, and so do their rows; omit it")
    counts = None if num_bytes is None or grid is None else [planes_for_bytes(spec, grid, num_bytes)]
    return plane_table(spec, _fit_of_codec(folder), grid, counts)


def _fit_of_codec(folder: Path) -> dict[str, Any]:
    """Return what the data set's codec says of its fit; nothing if that cannot be read, which `verify` reports."""
    from walloc_cdl.json_files import parse_json, read_limited

    try:
        config = parse_json(read_limited(folder / "codec" / "config.json", MAX_CONFIG_BYTES))
    except (OSError, ValueError):
        return {}
    fit = config.get("fit") if isinstance(config, dict) else None
    return fit if isinstance(fit, dict) else {}


def _form_text(manifest: Manifest) -> str:
    """Return a description of how codes are stored."""
    spec, layout = manifest.spec, manifest.layout
    if spec.planes is None:
        return f"{spec.bits} bits, companding {spec.companding}"
    size = "" if layout.ragged else f", {math.prod(layout.stored_shape):,} bytes a sample"
    return f"{spec.num_planes} bit planes, 1 to {spec.bits} bits a channel{size}"


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
