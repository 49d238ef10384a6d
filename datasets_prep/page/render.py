"""`cdl preview DIR --html`: a data set as one HTML file, without scripts or anything from elsewhere.

Only the samples that are shown are read, and the ledger in parts, so that a page of a million samples takes seconds.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from datasets_prep.page.ledger import SHOWN_ROWS, LedgerOverview, read_overview
from datasets_prep.preview import chosen_rows, decoded_images, original_images, psnr_db
from datasets_prep.sources.core.source import Source
from walloc_cdl.addresses import local_path
from walloc_cdl.codec import load_codec_folder
from walloc_cdl.codec.pictures import false_color, to_picture
from walloc_cdl.data import LatentDataset, open_latents
from walloc_cdl.latents import Manifest, load_manifest, load_provenance
from walloc_cdl.planes.rows import row_bytes
from walloc_cdl.planes.table import plane_table

MAX_CLASSES, MAX_CHANNELS, MAX_VALUE = 200, 256, 300
MAX_SIDE = 384
"""Pixels a side of the pictures in a page."""
STEPS = 2
"""Of latents with bit planes, samples are shown with all bytes, a quarter and a sixteenth."""


@dataclass(frozen=True)
class _View:
    name: str
    picture: str


@dataclass(frozen=True)
class _Sample:
    label: str
    key: str
    views: list[_View]


@dataclass(frozen=True)
class _Class:
    name: str
    counts: list[tuple[str, str]]


def render_page(
    folder: Path | str, *, source: Source | None = None, num: int = 8, split: str | None = None, seed: int = 0
) -> str:
    """Returns the page of a data set, with `num` random samples of a split, beside those of `source` if it is given.

    Raises `CallError` as `contact_sheet` does for splits and sources; sound is shown without pictures.
    """
    folder = local_path(folder)
    manifest = load_manifest(folder)
    codec = load_codec_folder(folder / "codec")
    overview = read_overview(folder, manifest)
    num_samples = sum(each.num_samples for each in manifest.splits.values())
    samples = _samples(folder, manifest, source, num, split, seed) if manifest.spec.kind == "image" else []
    grid = _grid(folder, manifest)
    table = [] if manifest.spec.planes is None else plane_table(manifest.spec, codec.config.fit or {}, grid)
    environment = Environment(
        loader=PackageLoader("datasets_prep.page", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("data_set.html").render(
        title=folder.resolve().name,
        lead=_lead(manifest, codec.name),
        tiles=_tiles(manifest, num_samples, grid),
        samples=samples,
        samples_note="Decoded from what is stored; with the source's image where it is at hand, and the PSNR to it.",
        prefix_headings=["bit planes", "bytes a sample", "bits a pixel", "channels", "PSNR dB"],
        prefixes=[_prefix_cells(row) for row in table],
        split_names=list(manifest.splits),
        classes=_classes(manifest),
        classes_note=f"Samples of each class; the first {MAX_CLASSES} of {len(manifest.class_names or ()):,}."
        if len(manifest.class_names or ()) > MAX_CLASSES
        else "Samples of each class.",
        statistics=_statistics(folder, manifest),
        ledger=[] if overview is None else _ledger(overview),
        ledger_note="" if overview is None else _ledger_note(overview, num_samples),
        facts=_facts(folder, manifest),
    )


def _samples(
    folder: Path, manifest: Manifest, source: Source | None, num: int, split: str | None, seed: int
) -> list[_Sample]:
    whole, rows = chosen_rows(folder, num=num, split=split, seed=seed)
    originals = [None] * len(rows) if source is None else original_images(source, whole, rows)
    readings = [whole, *_prefixes(whole, manifest)]
    decoded = [decoded_images(reading, rows) for reading in readings]
    names = [_reading_name(reading) for reading in readings]
    samples = []
    for place, (row, key) in enumerate(zip(rows, whole.keys(rows), strict=True)):
        original = originals[place]
        views = [] if original is None else [_View("source", _data_uri(original, original))]
        for name, images in zip(names, decoded, strict=True):
            image = images[place]
            quality = "" if original is None else f", {psnr_db(original, image):.1f} dB"
            views.append(_View(name + quality, _data_uri(image, image if original is None else original)))
        samples.append(_Sample(whole.label_text(int(row)), key, views))
    return samples


def _prefixes(dataset: LatentDataset, manifest: Manifest) -> list[LatentDataset]:
    """Returns readings of a quarter, a sixteenth, … of the planes; [] of latents without bit planes."""
    if manifest.spec.planes is None or dataset.layout.ragged:
        return []
    counts = [dataset.spec.num_planes >> 2 * step for step in range(1, STEPS + 1)]
    return [dataset.with_planes(count) for count in counts if count]


def _reading_name(dataset: LatentDataset) -> str:
    if dataset.layout.ragged:
        return "decoded"
    return f"{row_bytes(dataset.spec, dataset.latent_shape[1:]):,} bytes"


def _data_uri(image: np.ndarray, reference: np.ndarray) -> str:
    """Returns an image (C, H, W) as a data URI of WebP; many channels in false color, as the reference's."""
    picture = to_picture(image if image.dtype == np.uint8 else false_color(image, reference)).convert("RGB")
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _lead(manifest: Manifest, codec: str) -> str:
    source = manifest.source.get("name") or manifest.source.get("kind") or "a source"
    return f"Latents of {source} by the codec {codec}."


def _grid(folder: Path, manifest: Manifest) -> tuple[int, ...] | None:
    """Returns the latent grid; None where samples differ in size, and without samples."""
    split = next((name for name, each in manifest.splits.items() if each.num_samples), None)
    dataset = None if split is None else open_latents(folder, split)
    return None if dataset is None or dataset.layout.ragged else tuple(dataset.latent_shape[1:])


def _tiles(manifest: Manifest, num_samples: int, grid: tuple[int, ...] | None) -> list[tuple[str, str]]:
    stored = sum(entry.num_bytes for entry in manifest.shards)
    tiles = [
        (f"{num_samples:,}", "samples"),
        (f"{len(manifest.shards):,}", "shards"),
        (f"{stored / 1e6:,.1f} MB", "in all"),
    ]
    if grid is not None:
        tiles.insert(1, (f"{row_bytes(manifest.spec, grid):,}", "bytes a sample"))
    if manifest.class_names:
        tiles.insert(1, (f"{len(manifest.class_names):,}", "classes"))
    return tiles


def _prefix_cells(row: dict[str, Any]) -> list[str]:
    size = f"{row['bytes']:,}" if "bytes" in row else "–"
    psnr = f"{row['psnr_db']:.2f}" if "psnr_db" in row else "–"
    return [f"{row['planes']:,}", size, f"{row['bits']:.4g}", f"{row['channels']:,}", psnr]


def _classes(manifest: Manifest) -> list[_Class]:
    if not manifest.class_names:
        return []
    largest = {name: max(each.class_counts or [0]) for name, each in manifest.splits.items()}
    found = []
    for number, name in enumerate(manifest.class_names[:MAX_CLASSES]):
        counts = []
        for split, each in manifest.splits.items():
            count = each.class_counts[number] if each.class_counts else 0
            counts.append((f"{count:,}", f"{100 * count / max(largest[split], 1):.0f}"))
        found.append(_Class(name, counts))
    return found


def _statistics(folder: Path, manifest: Manifest) -> list[list[str]]:
    if "train" not in manifest.splits or not manifest.splits["train"].num_samples:
        return []
    dataset = open_latents(folder, "train")
    statistics, spec = dataset.statistics, dataset.spec
    bits = spec.channel_bits if spec.planes is not None else [spec.bits] * spec.latent_channels
    rows = zip(bits, statistics.mean, statistics.std, strict=True)
    return [[str(number), str(count), f"{mean:.4g}", f"{std:.4g}"] for number, (count, mean, std) in enumerate(rows)][
        :MAX_CHANNELS
    ]


def _ledger(overview: LedgerOverview) -> list[tuple[str, list[str], list[list[str]]]]:
    parts: list[tuple[str, list[str], list[list[str]]]] = []
    if overview.omitted:
        counts = [[reason, f"{count:,}"] for reason, count in overview.reasons.most_common(SHOWN_ROWS)]
        parts.append(("Reasons", ["reason", "samples"], counts))
        rows = [[row["split"] or "–", row["key"], row["reason"]] for row in overview.omitted]
        parts.append(("Samples that are not stored", ["split", "key", "reason"], rows))
    if overview.duplicates:
        rows = [[row["split"] or "–", row["key"], row["duplicate_of"]] for row in overview.duplicates]
        parts.append(("Samples with the content of another one", ["split", "key", "the same as"], rows))
    return parts


def _ledger_note(overview: LedgerOverview, num_samples: int) -> str:
    omitted = sum(overview.reasons.values())
    shown = (
        f" The first {SHOWN_ROWS} of each kind are listed."
        if max(omitted, overview.num_duplicates) > SHOWN_ROWS
        else ""
    )
    return (
        f"Of {overview.num_rows:,} samples of the source {num_samples:,} are stored, {omitted:,} are not, and "
        f"{overview.num_duplicates:,} have the content of another one.{shown}"
    )


def _facts(folder: Path, manifest: Manifest) -> list[tuple[str, str]]:
    provenance = load_provenance(folder) or {}
    facts: Sequence[tuple[str, Any]] = [
        ("source", manifest.source.get("name")),
        ("preparation", manifest.preprocessing),
        ("codec id", manifest.spec.codec_id),
        ("manifest", manifest.digest()),
        *((name.replace("_", " "), value) for name, value in provenance.items()),
    ]
    return [(name, str(value)[:MAX_VALUE]) for name, value in facts if value not in (None, "", {}, [])]
