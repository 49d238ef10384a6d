"""`cdl push` and `cdl pull`: upload and download data sets of latents."""

from __future__ import annotations

from typing import Annotated

import typer

from walloc_cdl.cli.console import progress, report
from walloc_cdl.cli.contents import contents, latents_text
from walloc_cdl.cli.options import Folder, JsonPath, LocalFolder


def push(
    folder: Folder,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Data set on the Hub; created if necessary.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch to commit to; created if necessary.")] = None,
    json_path: JsonPath = None,
) -> None:
    """Upload a data set to the Hugging Face Hub.

    All files become visible in one commit at the end. Running the same command again resumes the upload. The data set
    card is the folder's README.md; if there is none, one is generated.
    """
    from datasets_prep.hub import push as upload

    with progress("push", "files") as update:
        address = upload(
            folder,
            repository,
            private=private,
            revision=revision,
            on_file=lambda done, total, num_bytes: update(done, total, num_bytes=num_bytes),
        )
    report({"data set": f"hf://datasets/{repository}", "commit": address}, json_path)


def pull(
    location: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Data set on the Hub, or an address (s3://…).")],
    out: LocalFolder,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; default main.")] = None,
    json_path: JsonPath = None,
) -> None:
    """Download a data set from the Hub or an address.

    Every file is checked against its SHA-256. Running the same command again resumes the download.
    """
    from datasets_prep.hub import pull as download

    with progress("pull", "files") as update:
        manifest = download(
            location,
            out,
            revision=revision,
            on_file=lambda done, total, num_bytes: update(done, total, num_bytes=num_bytes),
        )
    latents = latents_text(manifest.latent_shape, manifest.views)
    rows = {"data set": str(out), "latents": latents, **contents(manifest)}
    report(rows, json_path, manifest.to_json())
