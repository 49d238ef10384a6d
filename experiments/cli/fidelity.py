"""The part of `cdl codec eval` that shows decoded images to a frozen classifier."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datasets_prep.job.config import PrepareConfig
from walloc_cdl.cli.console import progress, show, table, write_json
from walloc_cdl.cli.options import require_parent
from walloc_cdl.errors import CallError
from walloc_cdl.settings import settings_of

if TYPE_CHECKING:
    from datasets_prep.sources import Source
    from experiments.fidelity.outcome import FidelityOutcome
    from walloc_cdl.codec import Codec


def _setting(name: str) -> Any:
    """Returns the option for a setting that `cdl prepare` has, too."""
    return typer.Option(help=f"With --classifier. {settings_of(PrepareConfig)[name].help}")


ClassifierName = Annotated[
    str | None, typer.Option("--classifier", help="Images: a timm classifier that is shown the decoded images.")
]
Weights = Annotated[
    Path | None,
    typer.Option(help="With --classifier. safetensors file of its weights; default the published ones, downloaded."),
]
Budgets = Annotated[
    str | None,
    typer.Option(
        "--bytes",
        metavar="N,N,…",
        help="With --classifier. Bytes of an image; default those of all bit planes, a half of them, a quarter, …",
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="With --classifier. Other forms of the same bytes: pixels, jpeg, webp, avif; default pixels.",
    ),
]
Size = Annotated[int | None, _setting("size")]
Resize = Annotated[str | None, _setting("resize")]
Crop = Annotated[str | None, _setting("crop")]
CropShare = Annotated[
    float | None,
    typer.Option(
        "--crop-share", help="With --classifier. Side of the part that it sees, over the image's; default the model's."
    ),
]
Device = Annotated[str | None, typer.Option(help="With --classifier. cpu or cuda; default the GPU if there is one.")]
NumThreads = Annotated[
    int | None, typer.Option("--threads", help="With --classifier. Number of torch's threads.", min=1)
]
PlotPath = Annotated[
    Path | None,
    typer.Option("--plot", metavar="PATH", help="With --classifier. Picture to write.", callback=require_parent),
]


@dataclass(frozen=True)
class FidelityOptions:
    """Values of the options that need a classifier; None for those that were not given."""

    weights: Path | None
    bytes: str | None
    against: str | None
    size: int | None
    resize: str | None
    crop: str | None
    crop_share: float | None
    device: str | None
    threads: int | None
    plot: Path | None

    def require_none(self) -> None:
        """Raise `CallError` if one of the options was given: there is no classifier."""
        for each in fields(self):
            if (value := getattr(self, each.name)) is not None:
                option = f"--{each.name.replace('_', '-')}"
                raise CallError(f"{option} {value} without --classifier; name a timm classifier, or omit it")


def measure(
    codec: Codec,
    source: Source,
    classifier: str,
    options: FidelityOptions,
    selection: dict[str, Any],
    json_path: Path | None,
) -> None:
    """Measure, print the tables, and write JSON and plot. `selection` are arguments of `select_samples`."""
    from classifiers.models.pixel_classifier import load_pixel_classifier
    from datasets_prep.codec_fit.source_signals import select_samples
    from datasets_prep.job.choose_preparation import choose_preparation
    from experiments.fidelity.measure import measure_fidelity
    from experiments.fidelity.plot import require_picture
    from experiments.fidelity.report import parse_bytes
    from experiments.fidelity.samples import PreparedImages
    from experiments.fidelity.stored_forms import parse_forms
    from walloc_cdl.devices import choose_device
    from walloc_cdl.threads import torch_threads

    if source.kind != "image":
        raise CallError(f"--classifier with a source of kind {source.kind}; it sees decoded images, so give --images")
    if options.plot is not None:
        require_picture(options.plot)
    forms = parse_forms("pixels" if options.against is None else options.against)
    config = PrepareConfig(size=options.size, resize=options.resize, crop=options.crop)
    preparation = choose_preparation(source, codec, config)
    images = PreparedImages(source, preparation, select_samples(source, **selection))
    device = choose_device(options.device, allocate=True)
    network = load_pixel_classifier(classifier, options.weights, crop_share=options.crop_share).to(device)
    with torch_threads(options.threads), progress("eval", "images") as update:
        outcome = measure_fidelity(
            codec, network, images, budgets=parse_bytes(options.bytes), against=forms, on_image=update
        )
    report_outcome(outcome, json_path, options.plot)


def report_outcome(outcome: FidelityOutcome, json_path: Path | None, plot_path: Path | None) -> None:
    """Print the tables of an outcome, and write its JSON and its plot."""
    from experiments.fidelity.plot import plot_outcome

    table(*outcome.table())
    print()
    table(*outcome.difference_table())
    print()
    for note in outcome.notes():
        show(note)
    write_json(json_path, outcome.to_json())
    if plot_path is not None:
        plot_outcome(outcome, plot_path)
