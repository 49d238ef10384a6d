"""`cdl model push`: the classifier of a run on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from walloc_cdl.cli.console import report
from walloc_cdl.cli.options import JsonPath

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run of `cdl train`.")]


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
