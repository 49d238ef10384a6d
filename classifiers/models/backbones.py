"""Checks the names of timm models, and builds the models for a pixel grid of any size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from timm.layers import PatchEmbed
from timm.models import get_pretrained_cfg, is_model
from torch import Tensor, nn

from classifiers.models.config import ClassifierConfig
from walloc_cdl.canonical import sha256_file
from walloc_cdl.errors import CallError, CdlError, DamagedError, JobError, first_line, unknown_name

_BUILD_ERRORS = (AssertionError, IndexError, RuntimeError, TypeError, ValueError, ZeroDivisionError)
"""Exceptions that timm models raise for sizes and arguments that they do not support."""


BATCH_COUNTER = "num_batches_tracked"
"""Last part of the name of BatchNorm's counter, which older checkpoints lack and evaluation does not use."""

HUB_PREFIXES = ("hf_hub:", "hf-hub:")
"""What timm writes before the address of a model on the Hugging Face Hub."""


def resolve_model(name: str) -> str:
    """Returns the name in timm's registry of a model that is named by it or by its address, `hf_hub:timm/NAME`.

    Raises `CallError`, naming the nearest models, unless timm has a model of this name and tag.
    """
    for prefix in HUB_PREFIXES:
        if name.startswith(prefix):
            owner, _, repository = name.removeprefix(prefix).rpartition("/")
            if owner != "timm":
                raise CallError(
                    f"{name} is not a model of hf_hub:timm/…, and models are rebuilt without the Hub; name its "
                    "architecture as `timm.list_models()` shows it, and its model.safetensors as pretrained weights"
                )
            return resolve_model(repository)
    architecture, _, tag = name.partition(".")
    if not is_model(architecture):
        raise unknown_name("model", name, timm.list_models(), "`timm.list_models()` shows all")
    if tag:
        known = [published.partition(".")[2] for published in timm.list_pretrained(f"{architecture}.*")]
        if tag not in known:
            raise unknown_name(f"weights of {architecture}", tag, known, f"there are {', '.join(known) or 'none'}")
    return name


def token_embedding(backbone: nn.Module) -> PatchEmbed | None:
    """Returns the patch embedding of a model that keeps the number of its tokens throughout; None for other models."""
    embedding = getattr(backbone, "patch_embed", None)
    is_plain = isinstance(embedding, PatchEmbed) and hasattr(backbone, "blocks") and embedding.grid_size is not None
    return embedding if is_plain else None


def choose_patch_size(name: str, grid: int) -> int | None:
    """Returns the patch size in pixels on a grid of `grid` pixels, for a model that starts from random weights.

    It is the divisor of the grid that keeps the number of tokens per side nearest to the model's own: a
    patch16 at 224 has 14 per side, so it gets patches of 4 at 64 pixels and of 8 at 128. Returns None for
    models without a single grid of tokens, which keep their default.
    """
    embedding = token_embedding(build_structure(name))
    if embedding is None:
        return None
    tokens_per_side = embedding.grid_size[0]
    divisors = [size for size in range(grid, 0, -1) if grid % size == 0]
    # Of two divisors that are equally near, the larger patch comes first.
    return min(divisors, key=lambda size: abs(grid // size - tokens_per_side))


def build_backbone(config: ClassifierConfig, pretrained: bool | str | Path = False) -> nn.Module:
    """Build the timm model for the pixel grid of `config`, with `spec.source_channels` input channels.

    `pretrained` is false, true (published weights, downloaded) or a safetensors file of such weights.
    Raises `CallError` for a grid or an option that the model does not support, `DamagedError` for a file that is not
    safetensors, `JobError` if the weights cannot be downloaded.
    """
    arguments = _arguments(config)
    try:
        if not pretrained:
            backbone = timm.create_model(config.name, **arguments)
        else:
            backbone = load_pretrained(config.name, pretrained, arguments)
    except CdlError:
        raise
    except _BUILD_ERRORS as error:
        raise CallError(
            f"{config.name} cannot be built for a grid of {config.grid} pixels: {first_line(error)}; "
            "choose another grid or model"
        ) from error
    embedding = token_embedding(backbone)
    if embedding is not None and any(
        side % patch for side, patch in zip(config.input_size, embedding.patch_size, strict=True)
    ):
        raise CallError(
            f"{config.name} has patches of {embedding.patch_size[0]} pixels, which do not divide a grid of "
            f"{config.grid}; choose a grid that is a multiple of {embedding.patch_size[0]}"
        )
    return backbone


def pretrained_identity(name: str, pretrained: bool | str | Path) -> str | None:
    """Identify the initial weights of `build_backbone`: SHA-256 of the file, or the place where they are published.

    Returns None for random weights. The file, or the published weights, must exist; `build_backbone` checks that.
    """
    if not pretrained:
        return None
    if pretrained is not True:
        return f"sha256:{sha256_file(pretrained)}"
    published = get_pretrained_cfg(name)
    return published.hf_hub_id or published.url


def require_logits(model: nn.Module, config: ClassifierConfig) -> None:
    """Raise `CallError` unless the classifier computes `num_classes` logits for one sample."""
    was_training = model.training
    codes = torch.full((1, *config.latent_shape), 128, dtype=torch.uint8)
    try:
        with torch.no_grad():
            logits = model.eval()(codes)
    except CdlError:
        raise
    except _BUILD_ERRORS as error:
        raise CallError(
            f"{config.name} does not run on a grid of {config.grid} pixels: {first_line(error)}; "
            "choose another grid or model"
        ) from error
    finally:
        model.train(was_training)
    if logits.shape != (1, config.num_classes):
        raise CallError(
            f"{config.name} returns shape {list(logits.shape)} for one sample, expected [1, {config.num_classes}]; "
            "choose a model for classification"
        )


def _arguments(config: ClassifierConfig) -> dict[str, object]:
    arguments: dict[str, object] = {"in_chans": config.spec.source_channels, "num_classes": config.num_classes}
    published = get_pretrained_cfg(config.name)
    if published is not None and published.fixed_input_size:
        arguments["img_size"] = config.input_size
    if config.patch_size is not None:
        arguments["patch_size"] = config.patch_size
    for rate in ("drop_rate", "drop_path_rate"):
        if getattr(config, rate):
            arguments[rate] = getattr(config, rate)
    return arguments


def load_pretrained(name: str, pretrained: bool | str | Path, arguments: dict[str, Any]) -> nn.Module:
    """Build the timm model with published weights; see `build_backbone`. `arguments` are those of the model."""
    if pretrained is not True:
        path = Path(pretrained)
        if path.suffix != ".safetensors" or not path.is_file():
            raise CallError(f"pretrained weights {str(path)!r} are not a safetensors file; name one, or use True")
        num_classes = _classes_of_weights(name, path)
        overlay = {"file": str(path), **({} if num_classes is None else {"num_classes": num_classes})}
        arguments = {**arguments, "pretrained_cfg_overlay": overlay}
    else:
        published = get_pretrained_cfg(name)
        if published is None or not published.has_weights:
            raise CallError(f"there are no published weights for {name}; omit `pretrained` or choose another model")
    try:
        return timm.create_model(name, pretrained=True, **arguments)
    except RuntimeError as error:
        if "Error(s) in loading state_dict" not in str(error):
            raise
        origin = f"the published weights of {name}" if pretrained is True else str(pretrained)
        reason = str(error).split("\n")[1].strip() if "\n" in str(error) else first_line(error)
        raise CallError(f"{origin} are not weights of {name}: {reason[:200]}; name the model of the weights") from error
    except SafetensorError as error:
        origin = f"weights of {name} in the download cache" if pretrained is True else str(pretrained)
        reason = f"not readable as safetensors ({first_line(error)})"
        raise DamagedError(f"{origin}: {reason}; get the file again") from error
    except OSError as error:  # the errors of huggingface_hub, urllib and requests are all subclasses
        raise JobError(
            f"the weights of {name} could not be downloaded: {first_line(error)}; they are downloaded "
            "once and cached: connect to the network, or give a safetensors file as `pretrained`"
        ) from error


def _classes_of_weights(name: str, path: Path) -> int | None:
    """Returns the number of classes of the head in a safetensors file; None if it has no head.

    Raises `CallError` unless the file has all other tensors of the model, by name, and `DamagedError` for other files.
    Shapes are left to timm, which resizes position embeddings.
    """
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise DamagedError(f"{path}: not readable as safetensors ({first_line(error)}); get the file again") from error
    structure = build_structure(name)
    head = classifier_names(structure)
    own = [key for key, value in structure.state_dict().items() if key.rpartition(".")[0] not in head]
    missing = [key for key in own if key not in shapes and not key.endswith(BATCH_COUNTER)]
    if missing:
        what, remedy = f"does not hold weights of {name}", "name the model of the weights, or use `cdl weights convert`"
        if all(f"backbone.{key}" in shapes for key in missing):
            what, remedy = "are the weights of a run of `cdl train`", "load the run itself"
        count = f"{len(missing)} of {len(own)} tensors are missing, such as {missing[0]!r}"
        raise CallError(f"{path} {what}: {count}; {remedy}")
    weight = next((shapes[f"{each}.weight"] for each in head if f"{each}.weight" in shapes), None)
    return weight[0] if weight else None


def builds_without_memory(name: str) -> bool:
    """Return whether timm builds the model on the meta device, where its weights take no memory."""
    try:
        with torch.device("meta"):
            timm.create_model(name)
    except RuntimeError:  # some models compute with their weights during construction
        return False
    return True


def build_structure(name: str, **arguments: Any) -> nn.Module:
    """Build the model with timm's defaults, on the meta device where that works, so that its weights take no memory."""
    try:
        with torch.device("meta"):
            return timm.create_model(name, **arguments)
    except RuntimeError:  # some models compute with their weights during construction
        return timm.create_model(name, **arguments)


def build_for_weights(name: str, tensors: Mapping[str, Tensor], *, origin: str) -> nn.Module:
    """Build the timm model with its defaults and these weights, in eval mode; its number of classes is that of them.

    BatchNorm's counters may be missing. Raises `CallError`, with `origin` and a tensor's name in it, for the weights of
    another model.
    """
    arguments = {}
    structure = build_structure(name)
    head = classifier_name(structure)
    if (weight := tensors.get(f"{head}.weight")) is not None and weight.ndim:
        arguments["num_classes"] = weight.shape[0]
        structure = build_structure(name, **arguments)
    shapes = {key: value.shape for key, value in structure.state_dict().items() if not key.endswith(BATCH_COUNTER)}
    given = {key: value.shape for key, value in tensors.items() if not key.endswith(BATCH_COUNTER)}
    for key in [*shapes, *given]:
        if shapes.get(key) != given.get(key):
            found, expected = (
                list(shape) if shape is not None else "missing" for shape in (given.get(key), shapes.get(key))
            )
            raise CallError(
                f"{origin} does not hold weights of {name}: {key[:80]!r} is {found}, in the model {expected}; name the "
                "model of the weights, or convert a checkpoint with `cdl weights convert`"
            )
    model = timm.create_model(name, **arguments)
    model.load_state_dict({**model.state_dict(), **tensors})
    return model.eval()


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """Returns the names of the modules that make logits of features; distilled models have two."""
    names = getattr(model, "pretrained_cfg", {}).get("classifier")
    return (names,) if isinstance(names, str) else tuple(names or ())


def classifier_name(model: nn.Module) -> str | None:
    """Returns the name of the module that makes logits of features, the first one of distilled models."""
    return next(iter(classifier_names(model)), None)
