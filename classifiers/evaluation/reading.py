"""How samples are read at evaluation: one stored view or the mean over all, tiles or the whole, segments or clips.

What is averaged are logits. A classifier of sounds of five seconds so gives one answer for a clip of a minute, whose
segments are samples of the data set, and one of crops of 16 × 16 latents for a photo of any size.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from walloc_cdl.data import LatentDataset, LatentLoader
from walloc_cdl.data.crops import covered_shapes
from walloc_cdl.errors import CallError, first_line, unknown_name

VIEWS, RAGGED, UNITS = ("one", "mean"), ("tiles", "whole"), ("auto", "sample", "clip")

SEGMENT_KEY = re.compile(r"(?s)(.*)#\d{5,}")
"""Keys of segments: that of their clip, and the number of the segment."""

Run = Callable[[Tensor], Tensor]
"""Computes logits (B, num_classes) of codes, on the device."""


@dataclass(frozen=True)
class Reading:
    """The choices; raises `CallError` for others than are offered."""

    views: str = "one"
    """`one` stored view, that of the data set, or the `mean` over all."""
    ragged: str = "tiles"
    """Of samples that differ in size: the mean over `tiles` of the classifier's size that cover the sample, evenly
    spaced, or the `whole` sample, which models without a fixed size take."""
    unit: str = "auto"
    """`clip` gives one answer for all segments of a sound, `sample` one for each; `auto` is `clip` for segments."""

    def __post_init__(self) -> None:
        for name, choices in (("views", VIEWS), ("ragged", RAGGED), ("unit", UNITS)):
            value = getattr(self, name)
            if value not in choices:
                raise unknown_name(f"choice of {name}", value, choices, f"choose one of {', '.join(choices)}")


def clip_order(dataset: LatentDataset, reading: Reading) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the samples clip by clip, int64 (N,), and for each the number of its clip, int64 (N,), ascending.

    Clips are in the order of their first samples. Returns None if each sample is answered by itself. Raises `CallError`
    for clips of samples that are no segments.
    """
    is_cut = "segment_samples" in dataset.manifest.preprocessing
    if reading.unit == "sample" or (reading.unit == "auto" and not is_cut):
        return None
    if not is_cut:
        raise CallError(
            f"the samples of {dataset.folder} are no segments of clips, so there is one answer for each; choose sample"
        )
    numbers: dict[str, int] = {}
    found = [SEGMENT_KEY.fullmatch(key) for key in dataset.keys(range(len(dataset)))]
    keys = [str(number) if match is None else match[1] for number, match in enumerate(found)]
    clips = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    order = np.argsort(clips, kind="stable")
    return order, clips[order]


def unit_labels(dataset: LatentDataset, reading: Reading) -> np.ndarray:
    """Return the labels of what is answered, in the order of the answers; a clip has the label of its first segment."""
    rows = unit_rows(dataset, reading)
    return dataset.labels if rows is None else dataset.labels[rows]


def unit_rows(dataset: LatentDataset, reading: Reading) -> np.ndarray | None:
    """Return the first segment of each clip that is answered, int64 (N,); None if each sample is answered by itself."""
    clips = clip_order(dataset, reading)
    return None if clips is None else clips[0][np.unique(clips[1], return_index=True)[1]]


def logit_batches(
    run: Run,
    dataset: LatentDataset,
    shape: tuple[int, ...],
    reading: Reading,
    *,
    batch_size: int,
    device: torch.device,
    residency: str = "auto",
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Yield logits float32 (B, num_classes), labels (B, …), and how many samples were read so far.

    `shape` is that of the codes that the classifier takes, (K, h, w) or (K, t). Raises `CallError` for samples smaller
    than it, and for a mean over the views of a data set that has one.
    """
    clips = clip_order(dataset, reading)
    if clips is not None:
        dataset = dataset.select(clips[0])
    if dataset.layout.ragged:
        batches = _ragged(run, dataset, shape, reading.ragged, batch_size, device)
    else:
        batches = _fixed(run, _views(dataset, reading), batch_size, device, residency)
    yield from _counted(batches) if clips is None else _clip_means(batches, clips[1])


def _counted(batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor, int]]:
    done = 0
    for logits, labels in batches:
        done += len(labels)
        yield logits, labels, done


def _clip_means(batches: Iterator[tuple[Tensor, Tensor]], clips: np.ndarray) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Yield the mean of each clip's logits; `clips` has the clip of each sample, ascending."""
    kept: tuple[Tensor, Tensor] | None = None
    done = 0
    for logits, labels in batches:
        done += len(labels)
        logits = logits.float()
        kept = (logits, labels) if kept is None else (torch.cat([kept[0], logits]), torch.cat([kept[1], labels]))
        numbers = clips[done - len(kept[1]) : done]
        # The last clip is kept back, since it may go on in the next batch.
        complete = len(numbers) if done == len(clips) else int(np.searchsorted(numbers, numbers[-1]))
        if complete:
            _, starts, counts = np.unique(numbers[:complete], return_index=True, return_counts=True)
            means = torch.stack([part.mean(0) for part in kept[0][:complete].split(counts.tolist())])
            yield means, kept[1][torch.from_numpy(starts).to(kept[1].device)], done
            kept = (kept[0][complete:], kept[1][complete:])


def _fixed(
    run: Run, views: list[LatentDataset], batch_size: int, device: torch.device, residency: str
) -> Iterator[tuple[Tensor, Tensor]]:
    loaders = [
        LatentLoader(view, batch_size, device=device, shuffle=False, drop_last=False, residency=residency)
        for view in views
    ]
    for batches in zip(*loaders, strict=True):
        logits = [run(codes) for codes, _ in batches]
        yield logits[0] if len(logits) == 1 else torch.stack([each.float() for each in logits]).mean(0), batches[0][1]


def _ragged(
    run: Run, dataset: LatentDataset, shape: tuple[int, ...], how: str, batch_size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits and labels of samples that differ in size, as many at a time as have `batch_size` tiles."""
    labels = torch.from_numpy(dataset.labels).to(device)
    if how == "tiles":
        covered_shapes(dataset, tuple(shape[1:]))  # raises for smaller samples
    tiles: list[Tensor] = []
    counts: list[int] = []
    for row in range(len(dataset)):
        codes = dataset[row].codes
        if how == "whole":
            yield _whole(run, codes[None].to(device)), labels[row : row + 1]
            continue
        found = tiles_of(codes, tuple(shape[1:]))
        tiles.append(found)
        counts.append(len(found))
        if sum(counts) >= batch_size or row == len(dataset) - 1:
            logits = torch.cat([run(part.to(device)).float() for part in torch.cat(tiles).split(batch_size)])
            yield (
                torch.stack([part.mean(0) for part in logits.split(counts)]),
                labels[row + 1 - len(counts) : row + 1],
            )
            tiles, counts = [], []


def tiles_of(codes: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Return windows of these sides, (N, K, *sides), that cover codes (K, h, w) or (K, t) with as few as possible.

    Their distances differ by one at most. Every side of the codes is at least that of a window.
    """
    starts = []
    for length, side in zip(codes.shape[1:], sides, strict=True):
        count = -(-length // side)
        starts.append([(length - side) * number // max(count - 1, 1) for number in range(count)])
    windows = [
        codes[(slice(None), *(slice(start, start + side) for start, side in zip(place, sides, strict=True)))]
        for place in itertools.product(*starts)
    ]
    return torch.stack(windows)


def _whole(run: Run, codes: Tensor) -> Tensor:
    try:
        return run(codes)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise CallError(
            f"the classifier does not take a whole sample of {tuple(codes.shape[1:])} codes ({first_line(error)}); "
            "choose tiles"
        ) from error


def _views(dataset: LatentDataset, reading: Reading) -> list[LatentDataset]:
    if reading.views == "one":
        return [dataset]
    if dataset.num_views == 1:
        raise CallError(f"{dataset.folder} stores one view per sample, so there is no mean; choose one view")
    return [LatentDataset(dataset.stored, view, dataset.rows) for view in range(dataset.num_views)]
