"""Options of the commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from walloc_cdl.cli.optional_values import OMITTED, optional_value

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
        "sound: none, light (shift, masks) or timm (more of them); with the channels stem, of latents: none or light "
        "(flip, shift); or a .toml file of settings. Default light, and none for the channels stem."
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


def pretrained_weights(option: str | None) -> bool | Path:
    """Returns the argument `pretrained` of `create_model` for a value of `--pretrained`."""
    return Path(option).expanduser() if option not in (None, OMITTED) else option == OMITTED
