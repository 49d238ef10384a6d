"""`cdl predict`: classes of photos and clips, and of data sets of latents, by the classifier of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from walloc_cdl.addresses import is_address, local_path
from walloc_cdl.cli.console import progress, report, say, table
from walloc_cdl.cli.options import JsonPath, require_parent
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.files import write_atomic
from walloc_cdl.machine import wait_without_spinning_if_busy

if TYPE_CHECKING:
    from PIL import Image

    from classifiers import LatentClassifier
    from classifiers.prediction.table import PredictionTable

SHOWN_SAMPLES = 40
"""Maximum number of samples that are printed."""
SHOWN_UNREADABLE = 20
"""Maximum number of unreadable files that are printed."""


def predict(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run of `cdl train`, or hub:OWNER/NAME.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|FOLDER|DIR…", help="Photos or clips, folders of them, or one data set of latents."
        ),
    ],
    top: Annotated[int, typer.Option(help="Number of most probable classes to report of each sample.")] = 3,
    split: Annotated[str | None, typer.Option(help="Split of a data set; default test or validation.")] = None,
    csv_path: Annotated[
        Path | None,
        typer.Option("--csv", help="Write all predictions to this CSV file.", metavar="PATH", callback=require_parent),
    ] = None,
    json_path: JsonPath = None,
    sheet_path: Annotated[
        Path | None,
        typer.Option(
            "--contact-sheet",
            help="Draw up to 60 pictures with their classes to this file.",
            metavar="FILE.png",
            callback=require_parent,
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default the GPU if there is one.")] = None,
) -> None:
    """Classify photos, clips or the samples of a data set.

    Files are prepared and encoded as the data set of the run was, with the codec that the run keeps; the data set is
    not needed. A clip gets one answer for all of its segments. Files that cannot be read are reported, and the others
    classified; the exit code is 1 if none could be read.
    """
    wait_without_spinning_if_busy()
    from classifiers.hub.pull_run import from_pretrained, run_folder
    from classifiers.prediction.sheet import require_sheet
    from walloc_cdl.devices import choose_device

    require_sheet(sheet_path)
    data_sets = [each for each in inputs if _is_data_set(each)]
    if data_sets and len(inputs) > 1:
        raise CallError(f"{data_sets[0]} is a data set of latents, which is classified by itself; give one at a time")
    if split is not None and not data_sets:
        raise CallError(f"--split {split} is for data sets of latents; omit it")
    folder = run_folder(run)
    model = from_pretrained(folder).to(choose_device(device))
    if data_sets:
        found, sheet = _predict_data_set(model, data_sets[0], split, top, with_sheet=sheet_path is not None)
    else:
        found, sheet = _predict_files(model, folder, inputs, top, with_sheet=sheet_path is not None)
    if csv_path is not None:
        write_atomic(csv_path, found.to_csv().encode("utf-8"))
    for name, reason in found.unreadable[:SHOWN_UNREADABLE]:
        say(f"{name} cannot be read: {reason}")
    if (more := len(found.unreadable) - SHOWN_UNREADABLE) > 0:
        say(f"and {more:,} more files cannot be read; --csv PATH or --json PATH lists all")
    _show(found, json_path, csv_path)
    if found.unreadable and not found.samples:
        name, reason = found.unreadable[0]
        raise JobError(f"none of {len(found.unreadable)} files can be read; the first, {name}: {reason}")
    if sheet_path is not None and sheet is not None:
        sheet.save(sheet_path)


def _is_data_set(text: str) -> bool:
    from walloc_cdl.latents import MANIFEST_NAME

    return is_address(text) or (local_path(text) / MANIFEST_NAME).is_file()


def _predict_files(
    model: LatentClassifier, folder: Path, inputs: list[str], top: int, *, with_sheet: bool
) -> tuple[PredictionTable, Image.Image | None]:
    from classifiers.prediction.encode_files import FileEncoder
    from classifiers.prediction.predict_samples import find_files, predict_files
    from classifiers.prediction.sheet import PictureCollector, draw_predictions

    kind = model.config.spec.kind
    if with_sheet and kind == "audio":
        raise CallError("--contact-sheet draws pictures, but the run is of sound; omit it")
    encoder = FileEncoder(folder, model.config)
    files, num_others = find_files(inputs, kind)
    if num_others:
        say(f"{num_others:,} files of other kinds in the folders are left out")
    collector = PictureCollector(files) if with_sheet else None
    with progress("predict", "files") as update:
        found = predict_files(
            model, encoder, files, top=top, on_batch=None if collector is None else collector.add, progress=update
        )
    if collector is None or not found.samples:
        return found, None
    pictures = collector.pictures
    shown = [(sample, pictures.pop(sample.name)) for sample in found.samples if sample.name in pictures]
    return found, draw_predictions(found, shown)


def _predict_data_set(
    model: LatentClassifier, location: str, split: str | None, top: int, *, with_sheet: bool
) -> tuple[PredictionTable, Image.Image | None]:
    from classifiers.prediction.predict_samples import predict_stored
    from classifiers.prediction.sheet import MAX_PICTURES, draw_predictions, spread
    from walloc_cdl.data import open_files, open_latents

    splits = open_files(location).load_manifest().splits
    default = next((name for name in ("test", "validation") if name in splits), next(iter(splits)))
    dataset = open_latents(location, split or default)
    with progress("predict", "samples") as update:
        found = predict_stored(model, dataset, top=top, progress=update)
    if not with_sheet:
        return found, None
    shown = [
        (found.samples[row], np.asarray(dataset.image(row).convert("RGB")).transpose(2, 0, 1))
        for row in spread(len(dataset), MAX_PICTURES)
    ]
    return found, draw_predictions(found, shown)


def _show(found: PredictionTable, json_path: Path | None, csv_path: Path | None) -> None:
    """Print the first predictions and how many there are, and write the JSON file."""
    count = max((len(sample.top) for sample in found.samples), default=found.num_top)
    first = "target" if found.label_kind == "regression" else "class"
    places = [str(place) if place > 1 else first for place in range(1, count + 1)]
    is_labeled = found.num_labeled > 0
    rows = [
        [
            sample.name,
            *([""] if is_labeled and sample.label is None else [found.class_name(sample.label)] if is_labeled else []),
            *(f"{found.class_name(number)} {found.share_text(share)}" for number, share in sample.top),
        ]
        for sample in found.samples[:SHOWN_SAMPLES]
    ]
    if rows:
        table(["file", *(["label"] if is_labeled else []), *places], rows)
    summary: dict[str, object] = {"samples": f"{len(found.samples):,}"}
    if len(found.samples) > SHOWN_SAMPLES:
        summary["shown"] = f"the first {SHOWN_SAMPLES}; --csv PATH or --json PATH has all"
    if found.unreadable:
        summary["unreadable"] = f"{len(found.unreadable):,}"
    if is_labeled:
        summary["accuracy"] = found.num_correct / found.num_labeled
    if csv_path is not None:
        summary["predictions"] = str(csv_path)
    report(summary, json_path, found.to_json())
