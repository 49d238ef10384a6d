"""Checks that a run's weights are those of the classifier that its configuration describes, before it is built.

A configuration of some hundred bytes can describe ten million classes, or the largest model. So the classifier is built
on the meta device, where tensors have shapes but no memory, and compared with the weights, which are no larger than
their file.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classifiers.models.backbones import builds_without_memory
from classifiers.models.classifier import rebuild_model
from classifiers.models.config import ClassifierConfig
from walloc_cdl.errors import CallError, DamagedError, first_line
from walloc_cdl.training import RunFolder, require_same_tensors
from walloc_cdl.training.checkpoint import REMEDY

MAX_UNSAVED_BYTES = 2**28
"""Limit for what a model computes when it is built and does not save, such as the tables of relative positions."""


def require_weights_fit(config: ClassifierConfig, tensors: dict[str, Tensor], run: RunFolder) -> None:
    """Raise `DamagedError`, naming a file of the run, unless the classifier of `config` has these tensors and no more.

    Models of old versions of timm that cannot be built on the meta device are not checked.
    """
    origin = str(run.weights_path)
    table = tensors.get("input.table")
    if table is None or table.shape[:1] != (config.spec.latent_channels,):
        found = "missing" if table is None else f"of shape {list(table.shape)}"
        raise DamagedError(
            f"{origin}: 'input.table' is {found}, expected {config.spec.latent_channels} latent channels; {REMEDY}"
        )
    try:
        with torch.device("meta"):
            model = rebuild_model(config)
    except (CallError, RuntimeError, TypeError, ValueError) as error:  # of torch, for numbers that it cannot count with
        if not builds_without_memory(config.name):
            return
        raise DamagedError(f"{run.config_path}, classifier: {first_line(error)}; {REMEDY}") from error
    if dtype := common_dtype(tensors):
        model.to(dtype)
    require_same_tensors(model.saved_weights(), tensors, origin=origin)
    num_bytes = _unsaved_bytes(model)
    if num_bytes > MAX_UNSAVED_BYTES:
        raise DamagedError(
            f"{origin}: {config.name} takes {num_bytes:,} bytes besides its weights on a grid of {config.grid}, "
            f"expected at most {MAX_UNSAVED_BYTES:,}; {REMEDY}"
        )


def common_dtype(tensors: dict[str, Tensor]) -> torch.dtype | None:
    """Return the type that all floating-point tensors share, such as that of a model that was trained as bfloat16."""
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    return dtypes.pop() if len(dtypes) == 1 else None


def _unsaved_bytes(model: nn.Module) -> int:
    saved = model.state_dict().keys()
    return sum(buffer.nbytes for name, buffer in model.named_buffers() if name not in saved)
