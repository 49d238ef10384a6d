"""Options of the commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from walloc_cdl.cli.optional_values import OMITTED, optional_value
from walloc_cdl.errors import CallError

if TYPE_CHECKING:
    from walloc_cdl.augment.pipeline import AugmentConfig
    from walloc_cdl.augment.spectrogram import SpectrogramAugmentConfig

ModelName = Annotated[
    str, typer.Option("--model", help="A timm model, such as resnet18 or hf_hub:timm/resnet18.a1_in1k.")
]
Pretrained = Annotated[
    str | None,
    typer.Option(
        "--pretrained",
        metavar=optional_value("FILE"),
        help="Start from published weights, which are downloaded, or from a safetensors file of them.",
    ),
]
Epochs = Annotated[int, typer.Option(help="Passes over the training split.")]
BatchSize = Annotated[int, typer.Option(help="Samples per update.")]
LearningRate = Annotated[float, typer.Option("--lr", help="Peak learning rate.")]
Augment = Annotated[
    str | None,
    typer.Option(
        help="Augmentation of the pixels that the stem makes: none, light (crop, flip) or timm (as timm's recipes); of "
        "sound: none, light (shift, masks) or timm (more of them). Default light, and none for the channels stem."
    ),
]
Loss = Annotated[
    str | None,
    typer.Option(
        help="Of one class a sample cross_entropy (default) or bce, of several bce, of regression mse (default), l1 or "
        "huber."
    ),
]
Smoothing = Annotated[
    float, typer.Option("--smoothing", help="Label smoothing: share of a target that is spread over all classes.")
]
BceTargetThreshold = Annotated[
    float | None,
    typer.Option("--bce-target-thresh", help="With bce, targets above it become 1 and others 0, also mixed ones."),
]
BceSum = Annotated[bool, typer.Option("--bce-sum", help="With bce, sum over the classes; by default it is the mean.")]
ClassWeights = Annotated[
    str | None,
    typer.Option(
        "--class-weights",
        metavar="balanced|W0,W1,…",
        help="What an error of each class counts: balanced (rare classes more), or a number for each class.",
    ),
]
Sampling = Annotated[str, typer.Option(help="uniform, or balanced: each class equally often in an epoch.")]
Mixup = Annotated[float, typer.Option(help="Mixup of neighbors in a batch, by shares of Beta(A, A), such as 0.2.")]
Cutmix = Annotated[float, typer.Option(help="CutMix of neighbors in a batch, with areas of Beta(A, A), such as 1.")]
MixupProb = Annotated[float, typer.Option("--mixup-prob", help="Probability that a pair is mixed.")]
MixupSwitchProb = Annotated[
    float, typer.Option("--mixup-switch-prob", help="Probability of CutMix, if mixup is on as well.")
]
MixupOffEpoch = Annotated[int, typer.Option("--mixup-off-epoch", help="Mix in this many epochs only; 0 for all.")]
Crop = Annotated[
    str | None,
    typer.Option(
        metavar="SIDES",
        help="Of samples that differ in size, the crop in latents that the model takes: 16x16, or 400 of sound.",
    ),
]
Views = Annotated[str, typer.Option(help="Stored views of a sample: one, or the mean over all.")]
Ragged = Annotated[
    str, typer.Option(help="Of samples that differ in size: the mean over tiles of the model's size, or whole.")
]
Unit = Annotated[
    str, typer.Option("--unit", help="What one answer is for: sample, clip (all segments of a sound), or auto.")
]
Precision = Annotated[str, typer.Option(help="auto, bf16 or fp32.")]


def augment_config(name: str, kind: str = "image") -> AugmentConfig | SpectrogramAugmentConfig:
    """Returns the preset of a value of `--augment` for latents of a kind; raises `CallError` for another one."""
    from classifiers.runs.augmentation import preset  # imports torch

    return preset(name, kind)


def class_weights(text: str | None) -> str | tuple[float, ...] | None:
    """Returns `class_weights` of `TrainConfig` for a value of `--class-weights`; raises `CallError` for another."""
    if text is None or text == "balanced":
        return text
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise CallError(f"--class-weights {text!r}; expected balanced, or numbers such as 1,2.5,1") from error


def pretrained_weights(option: str | None) -> bool | Path:
    """Returns the argument `pretrained` of `create_model` for a value of `--pretrained`."""
    return Path(option).expanduser() if option not in (None, OMITTED) else option == OMITTED


def crop_sides(option: str | None) -> tuple[int, ...] | None:
    """Returns the argument `crop` of `create_model` for a value of `--crop`; raises `CallError` for other text."""
    if option is None:
        return None
    parts = option.lower().split("x")
    if not all(part.isascii() and part.isdigit() and 0 < len(part) < 10 for part in parts):
        raise CallError(f"--crop {option[:40]!r}; expected height and width in latents, such as 16x16, or a length")
    return tuple(int(part) for part in parts)
