"""Files as the latents that a run's classifier takes: prepared and encoded as the data set of the run was."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from classifiers.models.config import ClassifierConfig
from classifiers.runs.kept_codec import load_kept_codec
from datasets_prep.decode.audio import AudioPreparation, read_clip_info
from datasets_prep.encode.encoder import Encoder
from datasets_prep.job.choose_preparation import described_preparation
from datasets_prep.samples.preparation import Preparation
from datasets_prep.samples.stored import AudioSegment, BadSignalError
from walloc_cdl.codec import Codec
from walloc_cdl.errors import CallError, DamagedError, utf8_text
from walloc_cdl.machine import cpu_count
from walloc_cdl.training import RunFolder
from walloc_cdl.training.checkpoint import REMEDY

MAX_SEGMENTS = 120
"""Segments of a clip that are classified at most, evenly spaced: ten minutes in segments of five seconds, 100 MB."""

BATCH_CLIPS = 4

BATCH_FILES = 32
"""Files that are encoded and classified together."""


@dataclass(frozen=True, eq=False)
class EncodedFiles:
    """Some files, in the order in which they were given; those that cannot be read are apart."""

    names: list[str]
    counts: list[int]
    """Number of signals of each file: 1 of a photo, and of a clip that of its segments. They add up to N."""
    signals: np.ndarray
    """The prepared signals, uint8 (N, C, S, S), or float32 (N, C, T) of sound."""
    codes: Tensor
    """Their codes, uint8 (N, K, h, w) or (N, K, t), or rows (N, R) of a codec with bit planes; on the CPU."""
    unreadable: list[tuple[str, str]]
    """Names and reasons."""


class FileEncoder:
    """Prepares and encodes photos or clips with what a run keeps, so that neither data set nor network is needed.

    Clips are cut into segments as those of the run were. Raises `CallError` for a run without a codec or whose samples
    were no files, such as arrays, or kept their size, and `DamagedError` if what the run keeps is broken.
    """

    codec: Codec
    """The codec of the run, with the bit planes that the classifier takes."""
    preparation: Preparation
    """How the data set of the run was prepared."""

    def __init__(self, run: Path | str, config: ClassifierConfig) -> None:
        folder = RunFolder(run)
        preprocessing = _preprocessing(folder)
        kind = preprocessing.get("kind", "image")
        if kind not in ("image", "audio") or preprocessing.get("geometry") == "ragged":
            what = "signals that keep their size" if kind in ("image", "audio") else f"signals of kind {kind!r}"
            raise CallError(
                f"{folder.path} was trained on {what}, and only photos and clips of one size are classified from "
                "files; prepare a data set of latents of them, and give that"
            )
        self.codec = load_kept_codec(folder, config.spec)
        # Of several stored views, the first one is the evaluation crop.
        settings = {name: value for name, value in preprocessing.items() if name != "views"}
        self.preparation = described_preparation(str(kind), self.codec, settings)
        if (found := self.codec.latent_shape(self.preparation.shape)) != config.latent_shape:
            raise DamagedError(
                f"{folder.config_path}, data.preprocessing: latents of shape {found}, but the classifier takes "
                f"{config.latent_shape}; {REMEDY}"
            )

    def encode(self, files: Iterable[Path], batch_files: int | None = None) -> Iterator[EncodedFiles]:
        """Yield the files in batches; threads decode ahead, one of them clips, since it keeps the last one."""
        is_sound = isinstance(self.preparation, AudioPreparation)
        batch_files = batch_files or (BATCH_CLIPS if is_sound else BATCH_FILES)
        num_threads = 1 if is_sound else cpu_count()
        encoder = Encoder(self.codec, torch.device("cpu"), batch=1, signal_shape=self.preparation.shape)
        remaining = iter(files)
        with ThreadPoolExecutor(num_threads) as pool:
            pending = deque(
                (path, pool.submit(self._load, path)) for path in islice(remaining, batch_files + num_threads)
            )
            while pending:
                names, counts, signals, unreadable = [], [], [], []
                for _ in range(min(batch_files, len(pending))):
                    path, future = pending.popleft()
                    found = future.result()
                    if isinstance(found, str):
                        unreadable.append((utf8_text(str(path)), found))
                    else:
                        names.append(utf8_text(str(path)))
                        counts.append(len(found))
                        signals += found
                    pending.extend((each, pool.submit(self._load, each)) for each in islice(remaining, 1))
                yield EncodedFiles(names, counts, *self._encoded(encoder, signals), unreadable)

    def _load(self, path: Path) -> list[np.ndarray] | str:
        """Return the prepared signals of a file, or why there is none."""
        try:
            if not isinstance(self.preparation, AudioPreparation):
                return [self.preparation.load(path)]
            info = read_clip_info(path)
            info.require_decodable(self.preparation.sample_rate, self.preparation.channels)
            frames = info.resampled_frames(self.preparation.sample_rate)
            starts = self.preparation.starts(frames)
            chosen = np.linspace(0, len(starts) - 1, min(len(starts), MAX_SEGMENTS)).astype(int).tolist()
            return [self.preparation.load(AudioSegment(path, starts[number])) for number in chosen]
        except BadSignalError as error:
            return str(error)

    def _encoded(self, encoder: Encoder, signals: Sequence[np.ndarray]) -> tuple[np.ndarray, Tensor]:
        stacked = np.stack(signals) if signals else np.zeros((0, *self.preparation.shape), self.preparation.dtype)
        codes = encoder.encode_batch((stacked, len(stacked))) if signals else np.zeros((0, 0), np.uint8)
        return stacked, torch.from_numpy(codes)


def _preprocessing(run: RunFolder) -> dict[str, object]:
    """Return how the data set of a run was prepared; raises `CallError` for runs that do not say."""
    data = run.load_config().get("data")
    preprocessing = data.get("preprocessing") if isinstance(data, dict) else None
    if not isinstance(preprocessing, dict) or not preprocessing:
        raise CallError(
            f"{run.path} does not say how its data set was prepared, so it cannot classify files; give a data set of "
            "latents"
        )
    return preprocessing
