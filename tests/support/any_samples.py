"""Samples of every geometry and kind of label, for property tests; and the shard that the safetensors package makes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from crc32c import crc32c
from hypothesis import strategies as st
from safetensors.numpy import save

from tests.support.small_sets import make_spec
from walloc_cdl.latents import (
    FileEntry,
    LabelSpec,
    Manifest,
    SampleLayout,
    ShardWriter,
    SplitSummary,
    write_manifest,
)
from walloc_cdl.planes.rows import pack_rows
from walloc_cdl.spec import LatentSpec

LABELS = (
    LabelSpec(),
    LabelSpec("class", 3),
    LabelSpec("class"),
    LabelSpec("multilabel", 1),
    LabelSpec("multilabel", 4),
    LabelSpec("regression", 1),
    LabelSpec("regression", 3),
)
FIXED = {"image": (2, 2, 3), "audio": (2, 5)}
RAGGED = {"image": (2, None, None), "audio": (2, None)}
PLANES = (0, 0, 1, 0, 1)
"""Bit planes of two channels, of 3 and 2 bits."""
PACKED = {kind: make_spec(2, kind, bits=3, companding="levels", planes=PLANES, source_channels=1) for kind in FIXED}


@dataclass
class Drawn:
    """Arguments of `ShardWriter.append`, of all samples at once."""

    layout: SampleLayout
    codes: np.ndarray | list[np.ndarray]
    labels: np.ndarray | None
    keys: list[str]
    sizes: np.ndarray | None

    def rows(self, start: int, stop: int) -> dict:
        part = slice(start, stop)
        cut = {name: None if (value := getattr(self, name)) is None else value[part] for name in ("labels", "sizes")}
        return {"codes": self.codes[part], "keys": self.keys[part], **cut}


def draw_labels(rng: np.random.Generator, spec: LabelSpec, count: int) -> np.ndarray | None:
    shape = (count, *spec.sample_shape)
    if spec.kind == "none":
        return None
    if spec.kind == "class":
        return rng.integers(-1, spec.num_columns or 9, shape)
    if spec.kind == "multilabel":
        return rng.integers(0, 2, shape, dtype=np.uint8)
    targets = rng.standard_normal(shape).astype(np.float32)
    targets[rng.random(shape) < 0.2] = np.nan
    return targets


def draw_codes(rng: np.random.Generator, spec: LatentSpec, shape: Sequence[int]) -> np.ndarray:
    """Codes that may occur, uint8 of `shape`, (…, K, h, w) or (…, K, t)."""
    if spec.planes is None:
        return rng.integers(1, 256, shape, dtype=np.uint8)
    limits = 2 ** np.array(spec.channel_bits).reshape(-1, *[1] * (len(spec.axes) - 1))
    return rng.integers(0, np.broadcast_to(limits, shape), dtype=np.uint16).astype(np.uint8)


def draw_any(rng: np.random.Generator, layout: SampleLayout, count: int) -> Drawn:
    keys = [f"{'é' * (row % 3)}photo {row}.jpg" for row in range(count)]
    labels = draw_labels(rng, layout.labels, count)
    if not layout.ragged:
        codes = draw_codes(rng, layout.spec, (count, *layout.sample_shape))
        return Drawn(layout, codes, labels, keys, None)
    shapes = rng.integers(1, 6, (count, len(layout.latent_shape) - 1))
    codes = [draw_codes(rng, layout.spec, (layout.latent_shape[0], *shape)) for shape in shapes]
    sizes = (shapes * layout.spec.stride - rng.integers(0, layout.spec.stride, shapes.shape)).astype(np.int32)
    return Drawn(layout, codes, labels, keys, sizes)


@st.composite
def layouts(draw) -> SampleLayout:
    kind = draw(st.sampled_from(["image", "audio"]))
    ragged, labels = draw(st.booleans()), draw(st.sampled_from(LABELS))
    views = 1 if ragged else draw(st.sampled_from([1, 2, 3]))
    spec = PACKED[kind] if draw(st.booleans()) else make_spec(2, kind)
    return SampleLayout(spec, (RAGGED if ragged else FIXED)[kind], labels, views)


def stored_rows(codes: np.ndarray, spec: LatentSpec) -> np.ndarray:
    """Codes (N, …, K, h, w) as they are stored: themselves, or their rows (N, …, R)."""
    if spec.planes is None:
        return codes
    axes = len(spec.axes)
    rows = pack_rows(codes.reshape(-1, *codes.shape[-axes:]), spec.planes)
    return rows.reshape(*codes.shape[:-axes], rows.shape[1])


def packaged_bytes(drawn: Drawn, split: str) -> bytes:
    """The same shard by the safetensors package, as docs/format.md says it."""
    layout, encoded = drawn.layout, [key.encode() for key in drawn.keys]
    tensors = {
        "keys": np.frombuffer(b"".join(encoded), np.uint8),
        "key_offsets": np.cumsum([0, *map(len, encoded)], dtype=np.int64),
    }
    if layout.ragged:
        flat = [stored_rows(sample[None], layout.spec).reshape(-1) for sample in drawn.codes]
        tensors["codes"] = np.concatenate([np.empty(0, np.uint8), *flat])
        tensors["offsets"] = np.cumsum([0, *(sample.size for sample in flat)], dtype=np.int64)
        shapes = [sample.shape for sample in drawn.codes]
        tensors["shapes"] = np.array(shapes, np.int32).reshape(-1, len(layout.latent_shape))
        tensors["sizes"] = drawn.sizes
    else:
        tensors["codes"] = stored_rows(drawn.codes, layout.spec)
    if drawn.labels is not None:
        tensors["targets" if layout.labels.kind == "regression" else "labels"] = drawn.labels
    sums = []
    for row, key in enumerate(encoded):
        parts = [stored_rows(drawn.codes[row][None], layout.spec).tobytes()]
        parts += [tensors[name][row].tobytes() for name in ("shapes", "sizes") if name in tensors]
        parts += [b"" if drawn.labels is None else drawn.labels[row].tobytes(), key]
        sums.append(crc32c(b"".join(parts)))
    tensors["crc32c"] = np.array(sums, np.uint32)
    metadata = {"format_version": 2, "spec": layout.spec.to_json(), "split": split}
    return save(tensors, {"walloc_cdl": json.dumps(metadata, sort_keys=True, separators=(",", ":"))})


def write_any_set(
    folder: Path,
    layout: SampleLayout,
    splits: dict[str, Sequence[int]],
    *,
    seed: int = 0,
    files: dict[str, FileEntry] | None = None,
) -> dict[str, Drawn]:
    """Write a data set of this layout with shards of the given numbers of samples; returns each split's content."""
    rng = np.random.default_rng(seed)
    content, entries, histograms, summaries = {}, [], {}, {}
    for split, counts in splits.items():
        drawn = content[split] = draw_any(rng, layout, sum(counts))
        histograms[split] = np.zeros((layout.spec.latent_channels, 256), np.int64)
        for number, start in enumerate(np.cumsum([0, *counts])[:-1]):
            name, capacity = f"{split}-{number:05d}.safetensors", counts[number] + 1
            with ShardWriter(folder, name, layout=layout, split=split, capacity=capacity) as writer:
                writer.append(**drawn.rows(start, start + counts[number]))
                entry, histogram = writer.finish()
            entries.append(entry)
            histograms[split] += histogram
        class_counts = layout.labels.class_counts(drawn.labels)
        summaries[split] = SplitSummary(sum(counts), None if class_counts is None else class_counts.tolist())
    names = [f"column {number}" for number in range(layout.labels.num_columns)] or None
    is_regression = layout.labels.kind == "regression"
    manifest = Manifest(
        spec=layout.spec,
        latent_shape=layout.latent_shape,
        splits=summaries,
        shards=entries,
        files=files or {},
        histograms=histograms,
        label_kind=layout.labels.kind,
        class_names=None if is_regression else names,
        target_names=names if is_regression else None,
        views=[f"view {number}" for number in range(layout.num_views)] if layout.num_views > 1 else None,
    )
    write_manifest(folder, manifest)
    return content
