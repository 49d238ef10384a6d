"""Classifiers support images only, and refuse audio."""

from pathlib import Path

import numpy as np
import pytest

import classifiers
from walloc_cdl.data import LatentDataset
from walloc_cdl.data.files import LocalFiles
from walloc_cdl.data.stored_split import StoredSplit
from walloc_cdl.errors import CallError
from walloc_cdl.latents import Manifest, SplitSummary
from walloc_cdl.spec import LatentSpec


@pytest.mark.parametrize("stem", ["synthesis", "channels"])
def test_latents_of_audio_are_refused(stem):
    manifest = Manifest(
        spec=LatentSpec("a" * 64, "audio", 1, 2, 4, 8, "normal", sample_rate=8000),
        latent_shape=(2, 5),
        splits={"train": SplitSummary(0, [0, 0])},
        shards=[],
        files={},
        histograms={"train": np.zeros((2, 256), np.int64)},
        label_kind="class",
        class_names=["hum", "whistle"],
    )
    sounds = Path("sounds")
    dataset = LatentDataset(StoredSplit(sounds, LocalFiles(sounds), manifest, "train"))
    with pytest.raises(CallError, match=r"take latents of images, those of sounds are of kind 'audio'; read them with"):
        classifiers.create_model("test_resnet", dataset, stem=stem)
