"""Features of frozen layers, computed once for each sample and kept in a run's folder while it trains.

features.bin     the features of all samples, one after the other, in the type in which they were computed
features.json    what they are of, and how many samples are done; replaced after every chunk

An interrupted computation goes on after the last chunk. Features of other weights or settings are computed anew.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from classifiers.models.classifier import LatentClassifier
from classifiers.models.split import BackboneSplit, divide, frozen_parameters
from classifiers.runs.freezing import Freezing
from classifiers.runs.train_config import TrainConfig
from walloc_cdl.augment.config import PRESETS, SOUND_PRESETS
from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.data import LatentBatch, LatentDataset, LatentLoader
from walloc_cdl.data.readers import stored_rows
from walloc_cdl.data.sampler import Selection, draw_below
from walloc_cdl.errors import CallError, CdlError
from walloc_cdl.files import write_atomic
from walloc_cdl.json_files import read_json
from walloc_cdl.training import RunFolder, autocast, tensors_to_bytes

CHUNK = 64
"""Samples whose features are written at once."""
MAX_BYTES = 1 << 34
"""Features of more than 16 GiB are not kept; the frozen layers compute them in every epoch then."""
_VARIANT_STREAM = 3

OnFeatures = Callable[[int, int], None]
"""Called with the number of samples done and that of all."""


def why_not_kept(model: LatentClassifier, config: TrainConfig) -> str | None:
    """Returns why features cannot be kept: what changes before the frozen layers in every epoch; None if nothing."""
    if config.augment not in (PRESETS["none"], SOUND_PRESETS["none"]) and config.augment_variants is None:
        return "the pixels are augmented anew in every epoch; choose --augment none, or a number of --augment-variants"
    if config.mixing is not None:
        return "mixup and CutMix mix pixels"
    if model.config.stem == "channels" and not model.config.is_composed:
        return "the stem `channels` starts from random weights, and is trained"
    if model.transforms is not None:
        return "latents are transformed anew in every epoch"
    return "each sample is read at random budgets" if model.config.budgets is not None else None


def keep_features(
    model: LatentClassifier,
    loader: FeatureLoader,
    freezing: Freezing,
    config: TrainConfig,
    run: RunFolder,
    precision: str,
    *,
    progress: OnFeatures | None = None,
) -> bool:
    """Compute the features of the frozen layers, as far as the run does not have them, and let the loader give them.

    Returns false, and changes nothing, if they cannot be kept: see `why_not_kept`, or if the model cannot be divided.
    The model is on the loader's device and frozen. Raises `CallError` then if the configuration asks for variants.
    """
    kept = _keep(model, loader, freezing, config, run, precision, progress)
    if not kept and config.augment_variants is not None:
        raise CallError(
            f"augment_variants is {config.augment_variants}, but features of the layers before {freezing.until} cannot "
            f"be kept: {why_not_kept(model, config) or 'they are too large, or the model cannot be divided there'}; "
            "omit it"
        )
    return kept


def _keep(
    model: LatentClassifier,
    loader: FeatureLoader,
    freezing: Freezing,
    config: TrainConfig,
    run: RunFolder,
    precision: str,
    progress: OnFeatures | None,
) -> bool:
    if why_not_kept(model, config) is not None or loader.world_size > 1 or loader.crop is not None:
        return False
    dataset, device = loader.dataset, loader.device
    was_training = model.training
    model.eval()
    sample = dataset.gather(np.arange(min(2, len(dataset)))).codes.to(device)
    with torch.no_grad():
        pixels = model.pixels(sample)
        split = divide(model.backbone, freezing.until, pixels)
        if split is None:
            return _restored(model, was_training, False)
        with autocast(precision, device):
            like = split.front(pixels)
    num_variants = (dataset.num_views if loader.views is not None else 1) * (config.augment_variants or 1)
    store = _Store(run, _identity(model, freezing, config, precision), len(dataset) * num_variants, like[0])
    if store.num_bytes > MAX_BYTES:
        return _restored(model, was_training, False)
    compute = _Computation(model, split, loader, config, precision, num_variants)
    for start in range(store.done, store.count, CHUNK):
        store.append(compute.features(start, min(start + CHUNK, store.count)))
        if progress:
            progress(store.done, store.count)
    loader.features, loader.num_variants = store.values, num_variants
    model.split = split
    return _restored(model, was_training, True)


class FeatureLoader(LatentLoader):
    """A `LatentLoader` that gives features, float (B, …), in place of codes while `gives_features` is true."""

    features: Tensor | None = None
    """Those of all variants of all samples, sample by sample, (N × variants, …)."""
    num_variants: int = 1
    gives_features: bool = False

    def draws_words(self) -> bool:
        """Returns whether a batch's samples need random words: also to choose among stored variants."""
        return super().draws_words() or (self.gives_features and self.num_variants > 1)

    def read(self, selections: Sequence[Selection]) -> Generator[LatentBatch]:
        """Yield the batches of these samples."""
        if not self.gives_features or self.features is None:
            yield from super().read(selections)
            return
        labels = self.dataset.labels
        for selection in selections:
            places = selection.rows * self.num_variants
            if selection.words is not None and self.num_variants > 1:
                places = places + draw_below(selection.words >> np.uint64(32), self.num_variants)
            features = self.features[torch.from_numpy(places)].to(self.device)
            yield LatentBatch(features, torch.from_numpy(labels[selection.rows]).to(self.device))


@dataclass(frozen=True, eq=False)
class _Computation:
    """The frozen part of a model on the stored samples."""

    model: LatentClassifier
    split: BackboneSplit
    loader: LatentLoader
    config: TrainConfig
    precision: str
    num_variants: int

    @torch.no_grad()
    def features(self, start: int, stop: int) -> Tensor:
        """Returns the features of variants `start` to `stop`, counted over all samples, on the CPU."""
        size = min(64, self.loader.batch_size)
        parts = [self._of(np.arange(first, min(first + size, stop))) for first in range(start, stop, size)]
        return torch.cat(parts)

    def _of(self, variants: np.ndarray) -> Tensor:
        device, model = self.loader.device, self.model
        rows, numbers = variants // self.num_variants, variants % self.num_variants
        codes = self._codes(rows, numbers).to(device)
        words = None
        if self.config.augment_variants is not None:
            words = variant_words(rows, numbers, self.config.seed).to(device)
        with autocast(self.precision, device):
            pixels = model.augmented_pixels(model.input(codes), words)
            return self.split.front(pixels).cpu()

    def _codes(self, rows: np.ndarray, views: np.ndarray) -> Tensor:
        """Returns the stored rows or codes of one view of each sample."""
        dataset = self.loader.dataset
        if self.loader.views is None:
            return _stored(dataset, stored_rows(dataset, Selection(rows), dataset.rows))
        chosen = rows if dataset.rows is None else dataset.rows[rows]
        return _stored(dataset, chosen * dataset.num_views + views % dataset.num_views)


def variant_words(rows: np.ndarray, numbers: np.ndarray, seed: int) -> Tensor:
    """Returns the words, uint64 (B,), that decide how a sample is augmented in each of its variants."""
    words = [
        np.random.PCG64(np.random.SeedSequence((seed, int(row), int(number), _VARIANT_STREAM))).random_raw()
        for row, number in zip(rows, numbers, strict=True)
    ]
    return torch.from_numpy(np.array(words, np.uint64).view(np.int64)).view(torch.uint64)


class _Store:
    """The files of a run's features."""

    def __init__(self, run: RunFolder, identity: str, count: int, like: Tensor) -> None:
        self._data, self._state = run.features_paths
        self._like = like.cpu()
        self.count = count
        self.num_bytes = count * like.numel() * like.element_size()
        self._fields = {"identity": identity, "count": count, "shape": list(like.shape), "dtype": str(like.dtype)}
        self.done = self._resumed() if self.num_bytes <= MAX_BYTES else 0

    @property
    def values(self) -> Tensor:
        """The features of all samples, (count, …), mapped from the file."""
        like = self._like
        flat = torch.from_file(str(self._data), shared=False, size=self.count * like.numel(), dtype=like.dtype)
        return flat.view(self.count, *like.shape)

    def append(self, features: Tensor) -> None:
        """Write the features of the next samples."""
        content = features.contiguous().view(torch.uint8).numpy().tobytes()
        with self._data.open("r+b" if self._data.is_file() else "wb") as file:
            file.seek(self.done * math.prod(self._like.shape) * self._like.element_size())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # before the samples count as done
        self.done += len(features)
        write_atomic(self._state, canonical_json({**self._fields, "done": self.done}))

    def _resumed(self) -> int:
        """Returns the number of samples that are done already."""
        try:
            state = read_json(self._state)
            size = self._data.stat().st_size
        except (CdlError, OSError):
            return 0
        if not isinstance(state, dict) or {**state, "done": 0} != {**self._fields, "done": 0}:
            return 0
        done = state.get("done")
        size_of_one = self.num_bytes // self.count
        return done if type(done) is int and 0 <= done <= self.count and size >= done * size_of_one else 0


def _identity(model: LatentClassifier, freezing: Freezing, config: TrainConfig, precision: str) -> str:
    """Returns a digest of everything that features depend on, but for the data, which are those of the run."""
    frozen = {f"backbone.{name}" for name in frozen_parameters(model.backbone, freezing.until)}
    trained = {f"backbone.{name}" for name, _ in model.backbone.named_parameters()} - frozen
    tensors = {name: value.cpu() for name, value in model.saved_weights().items() if name not in trained}
    settings = [freezing.until, config.augment.to_json(), config.augment_variants, config.seed, precision]
    return sha256_hex(canonical_json([*settings, sha256_hex(tensors_to_bytes(tensors))]))


def _stored(dataset: LatentDataset, places: np.ndarray) -> Tensor:
    out = np.empty((len(places), *dataset.layout.view_shape), np.uint8)
    dataset.stored.fill_codes(places, out)
    return torch.from_numpy(out)


def _restored(model: LatentClassifier, was_training: bool, result: bool) -> bool:
    model.train(was_training)
    return result
