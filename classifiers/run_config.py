"""What a run depends on: by it a run's folder knows whether a call is the one that it is of."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from classifiers.model import LatentClassifier
from classifiers.train_config import TrainConfig
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.data import LatentDataset, LatentLoader
from walloc_cdl.training import tensors_to_bytes


def run_config(
    model: LatentClassifier,
    loader: LatentLoader,
    val_ds: LatentDataset | None,
    config: TrainConfig,
    *,
    is_seeded: bool,
    device: torch.device,
    precision: str,
) -> dict[str, Any]:
    """All that the weights and the metrics of a run follow from, as JSON.

    `is_seeded` says whether the initial weights follow from the seed; those of a model that was given can't be named,
    since it has others after the run. The versions and the processor, which decide over last bits only, are in the
    record. Where the data lie while they are read changes nothing and is left out.
    """
    return {
        "classifier": model.config.to_json(),
        "initial": {
            "weights": "seeded" if is_seeded else "given",
            "pretrained": model.origin.pretrained,
            "manifest_sha256": model.origin.manifest_sha256,
        },
        "transforms": _describe_transforms(model.transforms),
        "train": config.to_json(),
        "data": {
            "train": {
                **_identity(loader.dataset),  # whatever its view: with "random" all are drawn
                "view": loader.dataset.view if loader.views is None else loader.views,
                "batch_size": loader.batch_size,  # a small split has fewer than the recipe asks for
            },
            "validation": None if val_ds is None else {**_identity(val_ds), "view": val_ds.view},
        },
        # Random numbers on a GPU are others than on a CPU, and `auto` is another precision there.
        "compute": {"device": device.type, "precision": precision},
    }


def _identity(dataset: LatentDataset) -> dict[str, Any]:
    """What a run keeps of its data: enough to know them again."""
    return {
        "manifest_sha256": dataset.manifest.digest(),
        "split": dataset.split,
        "num_samples": len(dataset),
    }


def _describe_transforms(transforms: nn.Module | None) -> dict[str, str] | None:
    """The modules with their settings, as they print them, and the SHA-256 of their state."""
    if transforms is None:
        return None
    state = {name: value.clone() for name, value in transforms.state_dict().items()}
    return {"modules": " ".join(repr(transforms).split()), "state_sha256": sha256_hex(tensors_to_bytes(state))}
