"""Weights of a torch checkpoint as a safetensors file with the names of timm's tensors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from classifiers.models.backbones import BATCH_COUNTER, build_structure, classifier_name, resolve_model
from walloc_cdl.errors import CallError, DamagedError, one_line
from walloc_cdl.files import write_atomic
from walloc_cdl.training.checkpoint import tensors_to_bytes

STATE_KEYS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")
"""Names under which programs store the state dict in a checkpoint that holds more."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DistributedDataParallel, `torch.compile` and Lightning put before the names of all tensors."""


@dataclass(frozen=True)
class ConversionReport:
    """What was written."""

    model: str
    num_tensors: int
    num_values: int
    """Of all tensors: parameters, and the statistics of BatchNorm."""
    num_classes: int
    matched_by: str
    """`name`, or `order`: the names differ, but number, order and shapes of the tensors are those of the model."""

    def to_json(self) -> dict[str, object]:
        """Returns plain values."""
        return asdict(self)


def convert_weights(checkpoint: Path, model: str, out: Path) -> ConversionReport:
    """Write the weights of a torch checkpoint of the timm model `model` to the safetensors file `out`.

    Tensors whose names are timm's are taken by name, those of another implementation in order: layers that are created
    in the same order have the same shapes, one after the other. Whether two layers of equal shape changed places cannot
    be seen from the file, so compare some predictions. BatchNorm's counters are left out.

    The checkpoint is read with `weights_only=True`, so that no code in it is executed. Raises `CallError` for an
    unknown model, a missing file, an `out` that is not called `….safetensors`, and weights of another architecture,
    `DamagedError` for a file that torch cannot read.
    """
    name = resolve_model(model)
    if out.suffix != ".safetensors":
        raise CallError(f"{out} is not called ….safetensors, by which its format is known; rename it")
    found = _state(checkpoint)
    expected, num_classes = _expected_shapes(name, list(found.values()))
    matched_by = "name" if found.keys() == expected.keys() else "order"
    if len(found) != len(expected):
        raise CallError(
            f"{checkpoint} has {len(found)} tensors, but {name} has {len(expected)}; give the model of the checkpoint"
        )
    targets = list(found if matched_by == "name" else expected)
    for (key, value), target in zip(found.items(), targets, strict=True):
        if value.shape != expected[target]:
            raise CallError(
                f"{checkpoint}: {key[:80]!r} has shape {list(value.shape)}, but {target!r} of {name} has "
                f"{list(expected[target])}; give the model of the checkpoint"
            )
        if value.is_floating_point() and not value.isfinite().all():
            raise DamagedError(f"{checkpoint}: {key[:80]!r} has values that are not finite; get the file again")
    write_atomic(out, tensors_to_bytes(dict(zip(targets, found.values(), strict=True))))
    num_values = sum(value.numel() for value in found.values())
    return ConversionReport(name, len(found), num_values, num_classes, matched_by)


def _state(checkpoint: Path) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint by name, without BatchNorm's counters."""
    if not checkpoint.is_file():
        raise CallError(f"{checkpoint}: no such checkpoint; give a file as written by torch.save")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about foreign files before it refuses them
            root = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types of errors for files that it did not write
        raise DamagedError(
            f"{checkpoint}: cannot be read by torch with weights only ({one_line(error, 120)}); give a state dict as "
            "written by torch.save"
        ) from error
    state: Any = root
    for key in STATE_KEYS:
        if isinstance(root, Mapping) and isinstance(root.get(key), Mapping):
            state = root[key]
            break
    if not isinstance(state, Mapping) or not state:
        raise DamagedError(f"{checkpoint}: holds a {type(state).__name__}, expected tensors by name; give a state dict")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise DamagedError(f"{checkpoint}: {str(key)[:80]!r} is not a tensor; give a state dict")
    tensors = {key: value for key, value in state.items() if not key.endswith(BATCH_COUNTER)}
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _expected_shapes(name: str, values: list[Tensor]) -> tuple[dict[str, torch.Size], int]:
    """Returns the shapes of the model's tensors, with as many classes as the checkpoint has, and that number."""
    structure = build_structure(name)
    names = [key for key in structure.state_dict() if not key.endswith(BATCH_COUNTER)]
    num_classes = getattr(structure, "num_classes", 0)
    head = f"{classifier_name(structure)}.weight"
    if head in names and len(values) == len(names) and values[names.index(head)].ndim:
        num_classes = values[names.index(head)].shape[0]
        structure = build_structure(name, num_classes=num_classes)
    shapes = {key: value.shape for key, value in structure.state_dict().items() if not key.endswith(BATCH_COUNTER)}
    return shapes, num_classes
