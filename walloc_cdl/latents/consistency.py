"""The consistency check of a manifest, which runs on every manifest that is read or written."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from walloc_cdl.fields import is_plain_path
from walloc_cdl.latents.manifest import (
    COPY_FOLDER,
    MANIFEST_NAME,
    PROVENANCE_NAME,
    SHARD_SUFFIX,
    WORK_NAME,
    Manifest,
    SplitSummary,
)


def inconsistency(manifest: Manifest) -> str | None:
    """Describe the first contradiction inside a manifest; None if there is none."""
    if problem := _name_inconsistency(manifest) or manifest.layout.problem():
        return problem
    if not manifest.splits:
        return "no split, expected at least one"
    names = [*(entry.name for entry in manifest.shards), *manifest.files, MANIFEST_NAME, PROVENANCE_NAME]
    if len(set(names)) != len(names):
        return f"file {next(name for name, times in Counter(names).items() if times > 1)!r} is listed twice"
    if taken := [name for name in names if name.split("/")[0] in (COPY_FOLDER, WORK_NAME)]:
        return f"file {taken[0]!r} is in a folder reserved for copies or unfinished work"
    for entry in manifest.shards:
        if not entry.name.endswith(SHARD_SUFFIX) or not is_plain_path(entry.name) or "/" in entry.name:
            return f"shard name {entry.name!r} is not a plain name ending in {SHARD_SUFFIX}"
        if entry.split not in manifest.splits:
            return f"shard {entry.name} belongs to split {entry.split!r}, which is not listed"
    if set(manifest.histograms) != set(manifest.splits):
        return f"histograms for {sorted(manifest.histograms)}, expected {sorted(manifest.splits)}"
    for name, summary in manifest.splits.items():
        if problem := _split_inconsistency(manifest, name, summary):
            return f"split {name!r}: {problem}"
    return None


def _name_inconsistency(manifest: Manifest) -> str | None:
    """Describe what is wrong with the names of classes, targets or views."""
    for kind in ("class", "target", "view"):
        names = manifest.views if kind == "view" else getattr(manifest, f"{kind}_names")
        if names is not None and len(set(names)) != len(names):
            return f"a {kind} name occurs twice"
    if manifest.views is not None and len(manifest.views) < 2:
        return f"views {manifest.views}, expected two or more, or null"
    if manifest.class_names is not None and manifest.label_kind not in ("class", "multilabel"):
        return f"class names, but labels of kind {manifest.label_kind!r}"
    if manifest.target_names is not None and manifest.label_kind != "regression":
        return f"target names, but labels of kind {manifest.label_kind!r}"
    return None


def _split_inconsistency(manifest: Manifest, name: str, summary: SplitSummary) -> str | None:
    if not is_plain_path(name) or "/" in name:
        return "not a plain name"
    in_shards = sum(entry.num_samples for entry in manifest.shards_of(name))
    if in_shards != summary.num_samples:
        return f"{in_shards} samples in its shards, expected {summary.num_samples}"
    return _histogram_inconsistency(manifest, name, summary) or _count_inconsistency(manifest, summary)


def _histogram_inconsistency(manifest: Manifest, name: str, summary: SplitSummary) -> str | None:
    histogram, layout = manifest.histograms[name], manifest.layout
    if histogram.shape != (layout.spec.latent_channels, 256):
        return f"histogram of shape {list(histogram.shape)}, expected {[layout.spec.latent_channels, 256]}"
    if layout.packed:
        for channel, bits in enumerate(layout.spec.channel_bits):
            if histogram[channel, 2**bits :].any():
                largest = int(np.flatnonzero(histogram[channel])[-1])
                return f"histogram counts code {largest} of channel {channel}, which has {bits} bits"
    totals = histogram.sum(1)
    if layout.ragged:
        if totals.min() != totals.max() or totals[0] < summary.num_samples:
            return f"histogram counts {totals.min()} to {totals.max()} positions in {summary.num_samples} samples"
        return None
    positions = layout.num_views * math.prod(layout.sample_shape[-len(layout.latent_shape) + 1 :])
    if (totals != summary.num_samples * positions).any():
        return f"histogram counts differ from {summary.num_samples} samples of {positions} positions"
    return None


def _count_inconsistency(manifest: Manifest, summary: SplitSummary) -> str | None:
    counts = summary.class_counts
    if counts is None:
        return None
    if manifest.class_names is None or len(counts) != len(manifest.class_names):
        return f"{len(counts)} class counts for {len(manifest.class_names or [])} class names"
    if manifest.label_kind == "multilabel" and max(counts) > summary.num_samples:
        return f"{max(counts)} samples of one class, more than {summary.num_samples} samples"
    if manifest.label_kind == "class" and sum(counts) > summary.num_samples:
        return f"class counts add up to {sum(counts)}, more than {summary.num_samples} samples"
    return None
