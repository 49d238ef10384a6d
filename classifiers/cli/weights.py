"""`cdl weights convert`: weights of other programs for `--pretrained` and `--weights`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from walloc_cdl.cli.console import report
from walloc_cdl.cli.options import JsonPath, require_parent


def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint as torch.save writes it.")],
    model: Annotated[str, typer.Option("--model", help="The timm model that the weights are for.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="safetensors file to write.", callback=require_parent)],
    json_path: JsonPath = None,
) -> None:
    """Convert a torch checkpoint to timm's names.

    Writes a safetensors file for `--pretrained` and `--weights`. Tensors of other names are taken in order, if all
    shapes agree. No code in the checkpoint is executed.
    """
    from classifiers.models.convert_weights import convert_weights

    result = convert_weights(checkpoint, model, out)
    rows = {
        "weights": str(out),
        "model": result.model,
        "tensors": f"{result.num_tensors:,}, matched by {result.matched_by}",
        "values": f"{result.num_values:,}",
        "classes": f"{result.num_classes:,}",
    }
    report(rows, json_path, result.to_json())
