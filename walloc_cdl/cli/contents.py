"""What a data set holds, in words: the lines that reports share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from walloc_cdl.cli.console import size_text

if TYPE_CHECKING:
    from walloc_cdl.latents import Manifest


def latents_text(shape: tuple[int | None, ...], views: list[str] | None = None) -> str:
    """As 12x32x32, of ragged geometry 12x*x*, and the views."""
    text = "x".join("*" if side is None else str(side) for side in shape)
    return f"{text}, {len(views)} views ({', '.join(views)})" if views else text


def contents(manifest: Manifest) -> dict[str, object]:
    """Splits, quarantine and shards as lines of a report."""
    from walloc_cdl.latents import LEDGER_NAME

    rows: dict[str, object] = {}
    names = manifest.class_names or []
    for split in split_names(manifest):
        summary = manifest.splits[split]
        counts = [f"{name} {count:,}" for name, count in zip(names, summary.class_counts or [], strict=False)]
        rows[split] = ": ".join(filter(None, [f"{summary.num_samples:,} samples", ", ".join(counts)]))
    ledger = manifest.ledger
    if quarantined := ledger.get("num_quarantined", 0):
        rows["quarantined"] = f"{quarantined:,} unusable samples, with the reasons in {LEDGER_NAME}"
    if copies := ledger.get("num_duplicates", 0):
        left_out = ledger.get("reasons", {}).get("duplicate", 0)
        text = f"{copies:,} samples with the content of an earlier one" + (", left out" if left_out else "")
        if across := ledger.get("num_duplicates_across_splits", 0):
            text += f"; WARNING: {across:,} in another split than it"
        if other := ledger.get("num_duplicates_of_other_label", 0):
            text += f"; WARNING: {other:,} with another label"
        rows["duplicates"] = text
    rows["shards"] = f"{len(manifest.shards)}, {size_text(sum(shard.num_bytes for shard in manifest.shards))}"
    return rows


def split_names(manifest: Manifest) -> list[str]:
    """The splits, `train` first: a manifest keeps them in the order of their names."""
    return sorted(manifest.splits, key=lambda split: (split != "train", split == "test"))
