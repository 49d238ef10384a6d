"""Options that commands which train take."""

from __future__ import annotations

from typing import Annotated

import typer

ModelName = Annotated[str, typer.Option("--model", help="A timm model.")]
Epochs = Annotated[int, typer.Option(help="Passes over the training split.")]
BatchSize = Annotated[int, typer.Option(help="Samples for each update.")]
LearningRate = Annotated[float, typer.Option("--lr", help="Learning rate at its peak.")]
Precision = Annotated[str, typer.Option(help="auto, bf16 or fp32.")]
