"""The configuration of a run: everything that it depends on. A run's folder refuses calls with another one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from classifiers.models.classifier import LatentClassifier
from classifiers.runs.train_config import TrainConfig
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
    """Returns everything that determines the weights and the metrics of a run, as JSON.

    `is_seeded` says whether the initial weights follow from the seed. Those of a model that the caller passed cannot be
    identified, since training changes them. Versions and processor, which affect the last bits only, are in the
    record. The residency of the data does not affect the result, so it is left out.
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
                **_identity(loader.dataset),
                "view": loader.dataset.view if loader.views is None else loader.views,
                "batch_size": loader.batch_size,  # for a small split less than config.batch_size
            },
            "preprocessing": dict(loader.dataset.manifest.preprocessing),
            "validation": None if val_ds is None else {**_identity(val_ds), "view": val_ds.view},
        },
        # A GPU draws other random numbers than a CPU, and `auto` means another precision there.
        # Each of several processes normalizes its slice of a batch by itself, and draws its own dropout.
        "compute": {"device": device.type, "precision": precision, "processes": loader.world_size},
    }


def _identity(dataset: LatentDataset) -> dict[str, Any]:
    """Returns the fields by which a run identifies its data."""
    return {
        "manifest_sha256": dataset.manifest.digest(),
        "split": dataset.split,
        "num_samples": len(dataset),
        **({} if dataset.rows is None else {"rows_sha256": sha256_hex(dataset.rows.tobytes())}),
    }


def _describe_transforms(transforms: nn.Module | None) -> dict[str, str] | None:
    """Returns the `repr` of the modules, which has their settings, and the SHA-256 of their state."""
    if transforms is None:
        return None
    state = {name: value.clone() for name, value in transforms.state_dict().items()}
    return {"modules": " ".join(repr(transforms).split()), "state_sha256": sha256_hex(tensors_to_bytes(state))}
