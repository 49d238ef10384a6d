"""The lines on the contents of a data set that several reports share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from walloc_cdl.cli.console import size_text

if TYPE_CHECKING:
    from walloc_cdl.latents import Manifest
    from walloc_cdl.spec import LatentSpec


def latents_text(shape: tuple[int | None, ...], views: list[str] | None = None) -> str:
    """Format a latent shape, such as 12x32x32, or 12x*x* for ragged geometry, and the views."""
    text = "x".join("*" if side is None else str(side) for side in shape)
    return f"{text}, {len(views)} views ({', '.join(views)})" if views else text


def rate_text(spec: LatentSpec) -> str:
    """Format how much a latent holds, such as `16 times fewer values`, or `96 bit planes, 1.5 bits a pixel`."""
    if spec.planes is None:
        return f"{spec.reduction():g} times fewer values"
    point = "pixel" if spec.kind == "image" else "time step"
    return f"{spec.num_planes} bit planes, {spec.num_planes / spec.stride ** (len(spec.axes) - 1):.4g} bits a {point}"


def contents(manifest: Manifest) -> dict[str, object]:
    """Returns the lines on splits, quarantine, duplicates and shards."""
    from walloc_cdl.latents import LEDGER_NAME

    rows: dict[str, object] = {}
    names = manifest.class_names or []
    for split in split_names(manifest):
        summary = manifest.splits[split]
        counts = [f"{name} {count:,}" for name, count in zip(names, summary.class_counts or [], strict=False)]
        if names and manifest.label_kind == "class" and summary.class_counts is not None:
            unlabeled = summary.num_samples - sum(summary.class_counts)
            counts += [f"{unlabeled:,} without a label"] if unlabeled else []
        rows[split] = ": ".join(filter(None, [f"{summary.num_samples:,} samples", ", ".join(counts)]))
    ledger = manifest.ledger
    strays = _num_strays(manifest)
    if quarantined := ledger.get("num_quarantined", 0) - strays:
        rows["quarantined"] = f"{quarantined:,} unusable samples, with the reasons in {LEDGER_NAME}"
    if strays:
        rows["strays"] = strays_text(strays)
    if copies := ledger.get("num_duplicates", 0):
        left_out = ledger.get("reasons", {}).get("duplicate", 0)
        text = f"{copies:,} samples with the content of an earlier one" + (", left out" if left_out else "")
        if across := ledger.get("num_duplicates_across_splits", 0):
            text += f"; WARNING: {across:,} in a different split"
        if other := ledger.get("num_duplicates_of_other_label", 0):
            text += f"; WARNING: {other:,} with a different label"
        rows["duplicates"] = text
    rows["shards"] = f"{len(manifest.shards)}, {size_text(sum(shard.num_bytes for shard in manifest.shards))}"
    return rows


def strays_text(num_strays: int) -> str:
    """Format the number of files of a source that are not samples."""
    return f"{num_strays:,} files that are not samples"


def _num_strays(manifest: Manifest) -> int:
    """Returns the number of strays among the rows of the ledger; 0 for a data set derived from others."""
    num_strays, num_samples = (manifest.source.get(name) for name in ("num_strays", "num_samples"))
    if type(num_strays) is not int or not isinstance(num_samples, dict):
        return 0
    counts = [count for count in num_samples.values() if type(count) is int]
    of_this_source = manifest.ledger.get("num_rows") == sum(counts) + num_strays
    return num_strays if of_this_source and 0 <= num_strays <= manifest.ledger.get("num_quarantined", 0) else 0


def split_names(manifest: Manifest) -> list[str]:
    """Returns the splits with `train` first and `test` last; a manifest keeps them in the order of their names."""
    return sorted(manifest.splits, key=lambda split: (split != "train", split == "test"))
