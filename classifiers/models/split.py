"""Divides a timm model in front of one of its modules: what is frozen, and what is trained on its features.

`BackboneSplit.front` runs the model up to the module and stops there. `BackboneSplit.tail` runs the rest of it, on a
shallow copy whose earlier modules do nothing, so that the order of later operations is timm's own. Not every model can
be divided in this way; `divide` compares the two parts with the whole.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from classifiers.models.backbones import classifier_names
from walloc_cdl.errors import CallError, unknown_name

HEAD = "head"
"""The name that stands for the layer, or the layers, that make logits of features, whatever a model calls them."""

_CONTAINERS = ("blocks", "layers", "stages", "features")
"""Names that timm's models give to sequences of stages or blocks."""
_TOLERANCE = 1e-4


def stage_names(backbone: nn.Module) -> list[str]:
    """Returns the names of a model's parts in the order in which they compute, such as `layer4` or `blocks.6`."""
    names = []
    for name, child in backbone.named_children():
        if name in _CONTAINERS and isinstance(child, (nn.Sequential, nn.ModuleList)):
            names += [f"{name}.{part}" for part, _ in child.named_children()]
        else:
            names.append(name)
    return names


def frozen_names(backbone: nn.Module, until: str) -> list[str]:
    """Returns the names of the parts before `until`, or of all but the layers that make logits for `HEAD`.

    Raises `CallError` for a part that the model does not have, and for the first one.
    """
    names = stage_names(backbone)
    if until == HEAD:
        heads = classifier_names(backbone)
        if not heads:
            raise CallError(f"{type(backbone).__name__} does not name the layer that makes its logits; name a stage")
        return [name for name in names if name not in heads]
    if until not in names:
        raise unknown_name("stage", until, [HEAD, *names], f"there are {HEAD}, {', '.join(names)}")
    if until == names[0]:
        raise CallError(f"{until} is the first stage, so nothing before it is frozen; omit it")
    return names[: names.index(until)]


def frozen_parameters(backbone: nn.Module, until: str) -> list[str]:
    """Returns the names of the parameters that are frozen, those of the model itself, such as position embeddings, too.

    A head's other layers, such as its normalization, count as before the layer that makes logits.
    """
    if until == HEAD:
        frozen_names(backbone, until)
        trained = tuple(f"{name}." for name in classifier_names(backbone))
        return [name for name, _ in backbone.named_parameters() if not name.startswith(trained)]
    parts = tuple(f"{name}." for name in frozen_names(backbone, until))
    return [name for name, _ in backbone.named_parameters() if name.startswith(parts) or "." not in name]


def frozen_modules(backbone: nn.Module, until: str) -> list[nn.Module]:
    """Returns the modules that compute as in evaluation while they are frozen."""
    if until != HEAD:
        return [backbone.get_submodule(name) for name in frozen_names(backbone, until)]
    heads = classifier_names(backbone)
    modules = []
    for name in frozen_names(backbone, until):
        inner = tuple(head for head in heads if head.startswith(f"{name}."))
        part = backbone.get_submodule(name)
        if not inner:
            modules.append(part)
            continue
        modules += [module for child, module in part.named_children() if f"{name}.{child}" not in inner]
    return [module for module in modules if not isinstance(module, nn.Dropout)]


class BackboneSplit:
    """The two parts of a model; they share its weights."""

    def __init__(self, backbone: nn.Module, until: str) -> None:
        self._backbone = backbone
        heads = classifier_names(backbone)
        self._is_head = until == HEAD
        self._border = backbone.get_submodule(heads[0] if until == HEAD else until)
        self._shell = None if self._is_head else _without(backbone, frozen_names(backbone, until))

    def front(self, pixels: Tensor) -> Tensor:
        """Returns the input of the border module (B, …) for the model's input (B, C, H, W)."""
        with _stopping_at(self._border) as seen:
            try:
                self._backbone(pixels)
            except _Reached:
                return seen[0]
        raise CallError("the model does not reach the stage from which it is trained")

    def tail(self, features: Tensor) -> Tensor:
        """Returns logits (B, num_classes) for what `front` returned, with dropout in training mode."""
        if self._shell is None:
            rate = float(getattr(self._backbone, "drop_rate", 0.0) or 0.0)
            logits = self._border(dropout(features, rate, self._backbone.training))
            return logits.flatten(1)  # some heads are convolutions of one position
        self._shell.training = self._backbone.training
        return self._shell(features)


@torch.no_grad()
def divide(backbone: nn.Module, until: str, pixels: Tensor) -> BackboneSplit | None:
    """Returns the parts of a model in front of `until`; None if they do not give its logits for `pixels`."""
    was_training = backbone.training
    backbone.eval()
    try:
        split = BackboneSplit(backbone, until)
        whole = backbone(pixels)
        parts = split.tail(split.front(pixels))
    except Exception:  # models differ in what they raise for the input of another layer
        return None
    finally:
        backbone.train(was_training)
    scale = whole.abs().max().clamp_min(1e-6)
    is_same = parts.shape == whole.shape and bool((parts - whole).abs().max() <= _TOLERANCE * scale)
    return split if is_same else None


class _Reached(Exception):
    """The border is reached, and nothing after it is computed."""


@contextmanager
def _stopping_at(module: nn.Module) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []

    def stop(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])
        raise _Reached

    hook = module.register_forward_pre_hook(stop)
    try:
        yield seen
    finally:
        hook.remove()


def _without(backbone: nn.Module, names: list[str]) -> nn.Module:
    """Returns a shallow copy of a model in which these parts return what they are given."""
    shell = _shallow(backbone)
    for name in names:
        container, _, part = name.rpartition(".")
        if not container:
            setattr(shell, name, nn.Identity())
            continue
        if shell.get_submodule(container) is backbone.get_submodule(container):
            setattr(shell, container, _shallow(backbone.get_submodule(container)))
        setattr(shell.get_submodule(container), part, nn.Identity())
    if hasattr(shell, "_pos_embed"):  # of vision transformers, whose tokens have their positions already
        object.__setattr__(shell, "_pos_embed", nn.Identity())
    return shell


def _shallow(module: nn.Module) -> nn.Module:
    twin = copy.copy(module)
    object.__setattr__(twin, "_modules", dict(module._modules))
    return twin
