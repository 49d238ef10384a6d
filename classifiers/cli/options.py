"""Options of the commands that train."""

from __future__ import annotations

from typing import Annotated

import typer

ModelName = Annotated[str, typer.Option("--model", help="A timm model.")]
Epochs = Annotated[int, typer.Option(help="Passes over the training split.")]
BatchSize = Annotated[int, typer.Option(help="Samples per update.")]
LearningRate = Annotated[float, typer.Option("--lr", help="Peak learning rate.")]
Precision = Annotated[str, typer.Option(help="auto, bf16 or fp32.")]
