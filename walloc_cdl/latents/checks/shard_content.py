"""The content of shards compared with the manifest: samples by their checksums, totals by counting again."""

from __future__ import annotations

import numpy as np

from walloc_cdl.latents.manifest import Manifest, ShardEntry
from walloc_cdl.latents.shard import Shard


class ContentTotals:
    """Histograms and class counts that are recomputed from the shards and compared with the manifest's."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.layout = manifest.layout
        self.histograms = {name: np.zeros_like(histogram) for name, histogram in manifest.histograms.items()}
        self.class_counts = {name: np.zeros(self.num_classes, np.int64) for name in manifest.splits}
        self.incomplete: set[str] = set()
        """Splits with a damaged shard, whose totals are not compared: the shard is reported already."""

    @property
    def num_classes(self) -> int:
        """Number of named classes."""
        return len(self.manifest.class_names or [])

    def add(self, shard: Shard, entry: ShardEntry) -> list[str]:
        """Count the samples of one shard; returns descriptions of invalid values."""
        problems = []
        histogram = shard.histogram()
        self.histograms[entry.split] += histogram
        low, high = self.manifest.spec.byte_range
        outside = int(histogram.sum() - histogram[:, low : high + 1].sum())
        if outside:
            problems.append(f"{outside} code bytes outside {low} to {high}")
        if padded := len(shard.rows_with_padding_bits()):
            problems.append(f"{padded} samples with padding bits that are not zero")
        if shard.labels is not None and len(shard):
            problems += self._add_labels(shard.labels, entry.split)
        return problems

    def _add_labels(self, labels: np.ndarray, split: str) -> list[str]:
        spec = self.layout.labels
        if (counts := spec.class_counts(labels)) is not None:
            self.class_counts[split] += counts
        outside = int(spec.invalid(labels).sum())
        return [f"{outside} labels outside {spec.valid_values}"] if outside else []

    def problems(self) -> list[str]:
        """Describe where the manifest's totals differ from the recomputed ones."""
        found = []
        for name, summary in self.manifest.splits.items():
            if name in self.incomplete:
                continue
            channels = np.flatnonzero((self.histograms[name] != self.manifest.histograms[name]).any(1))
            if channels.size:
                found.append(f"split {name!r}: histogram of channels {channels.tolist()} differs from the shards'")
            if summary.class_counts is not None and summary.class_counts != self.class_counts[name].tolist():
                found.append(f"split {name!r}: class counts differ from the shards'")
        return found


def damaged_rows(shard: Shard) -> np.ndarray:
    """Return the rows, int64, of the samples whose stored CRC32C does not match their data."""
    return np.flatnonzero(shard.checksums() != shard.crc32c)
