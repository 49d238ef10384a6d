"""`cdl preview`: a picture of samples of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from walloc_cdl.cli.console import show
from walloc_cdl.cli.options import Folder, PrefixBytes, Seed, require_parent
from walloc_cdl.errors import CallError
from walloc_cdl.files import write_atomic


def preview(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Picture to write.", callback=require_parent)] = Path("preview.png"),
    source: Annotated[
        str | None, typer.Option(help="The source, whose images are shown beside the decoded latents.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write a page in place of the picture: samples at several budgets, bytes and PSNR of prefixes, "
            "classes, channels, and what the ledger has of bad and duplicate samples.",
            callback=require_parent,
        ),
    ] = None,
    num: Annotated[int, typer.Option(help="Number of samples.", min=1)] = 12,
    split: Annotated[str | None, typer.Option(help="Split to show; by default train, or the first.")] = None,
    num_bytes: PrefixBytes = None,
    seed: Seed = 0,
) -> None:
    """Draw source images beside their decoded latents.

    Source images are at the left. Of several stored views the first eight are drawn, beginning with the evaluation
    crop.
    """
    from PIL import Image

    from datasets_prep.page.render import render_page
    from datasets_prep.preview import contact_sheet
    from datasets_prep.sources import open_source

    if html is not None:
        if num_bytes is not None:
            raise CallError(f"--bytes {num_bytes} with --html, which shows several numbers of bytes; omit one of them")
        given = None if source is None else open_source(source)
        page = render_page(folder, source=given, num=num, split=split, seed=seed)
        write_atomic(html, page.encode())
        show(f"{html}: {len(page) / 1e6:.1f} MB")
        return
    if Image.registered_extensions().get(out.suffix.lower()) not in Image.SAVE:
        raise CallError(f"{out} has no file extension of an image format; use one such as .png or .jpg")
    images = None if source is None else open_source(source)
    sheet = contact_sheet(folder, source=images, num=num, split=split, seed=seed, num_bytes=num_bytes)
    sheet.save(out)
    show(f"{out}: {sheet.width}x{sheet.height}")
