"""`cdl model export` and `cdl model push`: the classifier of a run in other runtimes, and on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from walloc_cdl.cli.console import report, size_text
from walloc_cdl.cli.options import JsonPath, require_parent

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run of `cdl train`.")]


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run of `cdl train`, or hub:OWNER/NAME.")],
    form: Annotated[str, typer.Option("--to", metavar="FORM", help="onnx, or torch for torch.export.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write, NAME.onnx or NAME.pt2.", callback=require_parent)
    ],
    origin: Annotated[
        str, typer.Option("--from", metavar="INPUT", help="What it takes: codes, rows of bit planes, or pixels.")
    ] = "codes",
    opset: Annotated[int | None, typer.Option(help="With --to onnx: version of the operators; default 18.")] = None,
    json_path: JsonPath = None,
) -> None:
    """Write the classifier of a run for other programs.

    The file takes a batch of any size and gives logits. With --from pixels it has the encoder of the run's codec, too,
    and takes images that are cropped and resized already. It is run once, and compared with the model.
    """
    from classifiers.export.write_graph import export_run
    from classifiers.hub.pull_run import run_folder

    result = export_run(run_folder(run), out, form, origin=origin, opset=opset)
    shape = ", ".join(["B", *map(str, result.input_shape)])
    rows: dict[str, object] = {
        "file": f"{out}, {size_text(result.num_bytes)}",
        "input": f"{result.input_name}, uint8 ({shape})",
        "output": f"{result.output_name}, float32 (B, {result.num_outputs})",
    }
    if result.opset is not None:
        rows["opset"] = str(result.opset)
    difference = result.max_difference
    rows["compared"] = "not run: onnxruntime is not installed"
    if difference is not None:
        rows["compared"] = f"at most {difference:.2g} from the model's outputs"
    report(rows, json_path, result.to_json())


def push(
    run: Run,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Model on the Hub; created if necessary.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch to commit to; created if necessary.")] = None,
    json_path: JsonPath = None,
) -> None:
    """Upload the classifier of a run to the Hugging Face Hub.

    All files become visible in one commit. The model card is the folder's README.md; if there is none, one is
    generated. `cdl predict hub:OWNER/NAME` and `classifiers.from_pretrained` use it.
    """
    from classifiers.hub.push_run import push_run

    address = push_run(run, repository, private=private, revision=revision)
    report({"model": f"hub:{repository}", "commit": address}, json_path)
