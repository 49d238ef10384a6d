"""Draws a contact sheet of a data set: its decoded latents beside the source images."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw

from datasets_prep.encode.any_size import decode_bounded
from datasets_prep.job.choose_preparation import stored_preparation
from datasets_prep.job.plan import JOB_SETTINGS
from datasets_prep.job.read_failures import REPEAT, ReadFailures
from datasets_prep.samples.preparation import Preparation
from datasets_prep.samples.stored import BadSignalError
from datasets_prep.sources.core.source import Source
from walloc_cdl.addresses import local_path
from walloc_cdl.canonical import first_difference
from walloc_cdl.codec import Codec, load_codec_folder, to_bytes
from walloc_cdl.codec.pictures import false_color, to_picture
from walloc_cdl.data import LatentDataset, open_latents
from walloc_cdl.errors import CallError, terminal_text
from walloc_cdl.latents import load_manifest

TILE = 256
"""Pixels a side at which every image is shown."""
CAPTION = 16
GAP = 8
TILES_IN_ROW = {1: 4, 2: 6}
"""Maps the number of a sample's tiles to the number of tiles in a row. Other samples use rows of 6 tiles, or one row
each."""
MAX_VIEWS = 8
"""Maximum number of stored views that are shown of each sample."""


@dataclass(frozen=True, eq=False)
class SheetCell:
    """A sample on a contact sheet."""

    images: list[np.ndarray]
    """uint8 (C, H, W) of one or three channels: the source image, if any, then the decoded views."""
    caption: str
    """The line below the images."""


def contact_sheet(
    folder: str | os.PathLike[str],
    *,
    source: Source | None = None,
    num: int = 12,
    split: str | None = None,
    seed: int = 0,
    num_bytes: int | None = None,
) -> Image.Image:
    """Draw `num` random samples of a split, `train` by default, decoded with the data set's codec.

    With `source`, the source image with the sample's key is at the left, and the caption has the PSNR in dB of the
    8-bit pixels. Arrays of many channels are shown in false color, see `false_color`; their PSNR is of all channels. Up
    to `MAX_VIEWS` stored views are side by side; the PSNR is that of the first view. Of latents with bit planes,
    `num_bytes` of each sample are decoded, or all.

    Raises `CallError` for an unknown or empty split, for audio, and for a source that has none of the samples.
    """
    dataset, rows = chosen_rows(folder, num=num, split=split, seed=seed, num_bytes=num_bytes)
    views = [
        decoded_images(open_latents(folder, dataset.split, bytes=num_bytes, view=view), rows)
        for view in range(min(dataset.num_views, MAX_VIEWS))
    ]
    originals: list[np.ndarray | None] = [None] * len(rows)
    if source is not None:
        originals = original_images(source, dataset, rows, views[0][0].shape[1])
    names = f": {', '.join(dataset.view_names[:MAX_VIEWS])}" if dataset.view_names else ""
    cells = [
        _cell(original, list(images), dataset.label_text(int(row)), key.rpartition("/")[2] + names)
        for original, images, row, key in zip(
            originals, zip(*views, strict=True), rows, dataset.keys(rows), strict=True
        )
    ]
    tiles = len(views) + (source is not None)
    return draw_sheet(cells, columns=max(1, TILES_IN_ROW.get(tiles, 6) // tiles), tiles=tiles)


def chosen_rows(
    folder: str | os.PathLike[str], *, num: int, split: str | None = None, seed: int = 0, num_bytes: int | None = None
) -> tuple[LatentDataset, np.ndarray]:
    """Return a split, `train` by default, and `num` random rows of it in ascending order.

    Raises `CallError` for an unknown or empty split, and for what cannot be drawn.
    """
    dataset = open_latents(folder, _split(folder, split), bytes=num_bytes)
    if dataset.spec.kind != "image":
        raise CallError(
            f"{folder} holds {dataset.spec.kind}, which cannot be drawn; use `cdl inspect` or `cdl verify` instead"
        )
    return dataset, np.sort(np.random.default_rng(seed).permutation(len(dataset))[: max(num, 1)])


def decoded_images(dataset: LatentDataset, rows: np.ndarray) -> list[np.ndarray]:
    """Decode samples to images (C, H, W), uint8, or float for arrays; ragged samples have their own sizes."""
    codec = _codec(dataset)
    if dataset.layout.ragged:
        images = [decode_bounded(codec, dataset[int(row)][0].numpy()) for row in rows]
        sizes = dataset.signal_sizes(rows)
        return [image[:, :height, :width] for image, (height, width) in zip(images, sizes, strict=True)]
    with torch.inference_mode():
        signal = codec.decode(dataset.gather(rows)[0])
    is_array = dataset.manifest.preprocessing.get("kind") == "array"
    return list((signal if is_array else to_bytes(signal)).numpy())


def original_images(
    source: Source, dataset: LatentDataset, rows: np.ndarray, size: int | None = None
) -> list[np.ndarray | None]:
    """Return the prepared samples of a source with the keys of rows; None for one that it no longer has, or damaged.

    `size` is their side in pixels, by default that of the first decoded one. Raises `CallError` for a source that has
    none of them, `JobError` for one that it lists, but that the system cannot read.
    """
    side = decoded_images(dataset, rows[:1])[0].shape[1] if size is None else size
    return _originals(source, _preparation(source, dataset, _codec(dataset), side), dataset, rows)


def _codec(dataset: LatentDataset) -> Codec:
    return load_codec_folder(local_path(dataset.folder) / "codec").for_latents(dataset.spec)


def psnr_db(reference: np.ndarray, image: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB, with a peak of 255 for uint8, else 1; infinite for equal arrays."""
    peak = 255 if reference.dtype == np.uint8 else 1
    error = np.mean((reference.astype(np.float64) - image) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(peak**2 / error))


def _split(folder: str | os.PathLike[str], name: str | None) -> str:
    splits = load_manifest(folder).splits
    nonempty = [split for split, summary in splits.items() if summary.num_samples]
    if name is None:
        if not nonempty:
            raise CallError(f"{folder} has no samples to show; prepare a source with usable images")
        return "train" if "train" in nonempty else nonempty[0]
    if name not in nonempty:
        state = "is empty" if name in splits else "does not exist"
        raise CallError(f"split {name!r} of {folder} {state}; splits with samples: {', '.join(nonempty)}")
    return name


def _preparation(source: Source, dataset: LatentDataset, codec: Codec, size: int) -> Preparation:
    """Return the preparation of the data set; raises `CallError` for arrays that were prepared with other options."""
    # only the evaluation crop is shown beside the decoded views
    preprocessing = {name: value for name, value in dataset.manifest.preprocessing.items() if name != "views"}
    preparation = stored_preparation(source, codec, {"size": size, **preprocessing})
    if source.kind == "array":
        stored = {name: value for name, value in dataset.manifest.preprocessing.items() if name not in JOB_SETTINGS}
        if difference := first_difference(preparation.to_json(), stored):
            field, given, original = difference
            raise CallError(
                f"source {source.name} is read with {field} {given!r}, but {dataset.folder} was made with "
                f"{original!r}; give the source with the options that the data set was made with"
            )
    return preparation


def _originals(
    source: Source, preparation: Preparation, dataset: LatentDataset, rows: np.ndarray
) -> list[np.ndarray | None]:
    """Return the prepared samples with the rows' keys; None for one that the source no longer has, or has damaged.

    Raises `JobError` for one that the source lists, but that the system cannot read.
    """
    if dataset.split not in source.split_names:
        raise CallError(
            f"source {source.name} has no split {dataset.split!r}, only {', '.join(source.split_names)}; "
            "give the source that the data set was made from"
        )
    index = {key: number for number, key in enumerate(source.listing.splits[dataset.split].keys)}
    keys = dataset.keys(rows)
    if not any(key in index for key in keys):
        raise CallError(
            f"source {source.name} has none of the selected samples (the first is {keys[0]}); give the source that the "
            "data set was made from"
        )
    originals: list[np.ndarray | None] = []
    failures = ReadFailures(REPEAT)
    for key in keys:
        original = None
        if key in index:
            try:
                original = preparation.load(source.read(dataset.split, index[key]))
            except BadSignalError as error:
                failures.check_error(source, dataset.split, index[key], error)
        originals.append(original)
    return originals


def _cell(original: np.ndarray | None, decoded: list[np.ndarray], label: str, name: str) -> SheetCell:
    quality = f"{psnr_db(original, decoded[0]):.1f} dB" if original is not None else ""
    caption = "  ".join(part for part in (label, quality, name) if part)
    images = decoded if original is None else [original, *decoded]
    return SheetCell([image if image.dtype == np.uint8 else false_color(image, images[0]) for image in images], caption)


def draw_sheet(cells: list[SheetCell], *, columns: int, tiles: int = 1) -> Image.Image:
    """Draw cells of at most `tiles` images each in rows of `columns` cells."""
    columns = min(columns, len(cells))
    lines = -(-len(cells) // columns)
    width, height = tiles * TILE + GAP, TILE + CAPTION + GAP
    sheet = Image.new("RGB", (columns * width + GAP, lines * height + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number, cell in enumerate(cells):
        left, top = GAP + number % columns * width, GAP + number // columns * height
        for column, image in enumerate(cell.images, start=tiles - len(cell.images)):
            sheet.paste(_tile(image), (left + column * TILE, top))
        caption = _truncated(pen, terminal_text(cell.caption), tiles * TILE)
        pen.text((left, top + TILE + 2), caption, fill="black")
    return sheet


def _tile(image: np.ndarray) -> Image.Image:
    picture = to_picture(image).convert("RGB")
    scale = TILE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    shown = picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)
    tile = Image.new("RGB", (TILE, TILE), "white")
    tile.paste(shown, ((TILE - shown.width) // 2, (TILE - shown.height) // 2))
    return tile


def _truncated(pen: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """Return the text in the characters of PIL's default font, truncated to `width` pixels."""
    text = text.encode("ascii", "replace").decode()
    while pen.textlength(text) > width:
        text = text[:-1]
    return text
