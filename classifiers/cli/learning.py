"""`cdl evaluate`: evaluation of classifiers on a data set of latents; how metrics are printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classifiers.cli.options import (
    Ragged,
    Unit,
    Views,
)
from walloc_cdl.cli.console import progress, report, say
from walloc_cdl.cli.options import JsonPath, PrefixBytes, require_parent
from walloc_cdl.errors import CallError
from walloc_cdl.files import write_atomic
from walloc_cdl.machine import wait_without_spinning_if_busy

if TYPE_CHECKING:
    from classifiers import Metrics, MultilabelMetrics, RegressionMetrics
    from classifiers.evaluation.kinds import AnyMetrics
    from walloc_cdl.data import LatentDataset
    from walloc_cdl.latents import SplitSummary

DataSet = Annotated[
    str, typer.Argument(metavar="DIR", help="Folder of the data set, or its address (hf://datasets/OWNER/NAME).")
]
VALIDATION_SPLITS = ("validation", "valid", "val", "test")
SHOWN_CLASSES = 20
"""Maximum number of classes, those of lowest recall, whose confusions are printed."""
SHOWN_CONFUSIONS = 20
"""Maximum number of predicted classes that are printed for a class."""


def splits_with_labels(splits: Mapping[str, SplitSummary]) -> list[str]:
    """Returns the splits to evaluate on by default; test splits without labels are frequent, and are left out."""
    found = [name for name in VALIDATION_SPLITS if name in splits]
    labeled = [name for name in found if any(splits[name].class_counts or [1])]
    if len(labeled) < len(found):
        say(f"no sample of split {', '.join(name for name in found if name not in labeled)} has a label; not evaluated")
    return labeled


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run of `cdl train`.")],
    folder: DataSet,
    split: Annotated[str | None, typer.Option(help="Split to evaluate on; default test or validation.")] = None,
    classes_path: Annotated[
        Path | None,
        typer.Option("--classes", help="Write the figures of each class to this CSV file.", callback=require_parent),
    ] = None,
    views: Views = "one",
    ragged: Ragged = "tiles",
    unit: Unit = "auto",
    num_bytes: PrefixBytes = None,
    json_path: JsonPath = None,
) -> None:
    """Evaluate a trained classifier on a split of a data set.

    The data set must have the codec, the size and the classes that the classifier was trained on. Of latents with bit
    planes, as many planes are read as the classifier was trained on, or fewer (--bytes) if it was trained with budgets.
    """
    wait_without_spinning_if_busy()
    import classifiers
    from walloc_cdl.data import open_files, open_latents

    reading = classifiers.Reading(views, ragged, unit)
    model = classifiers.load_classifier(run)
    manifest = open_files(folder).load_manifest()
    splits = manifest.splits
    chosen_split = split or next(reversed(splits_with_labels(splits)), next(iter(splits)))
    of_run, stored = model.config.spec, manifest.spec
    is_prefix = num_bytes is None and of_run.codec_id == stored.codec_id and of_run.num_planes < stored.num_planes
    test_set = open_latents(folder, chosen_split, bytes=num_bytes, num_planes=of_run.num_planes if is_prefix else None)
    fits = test_set.spec.num_planes == of_run.num_planes
    fits = fits or (model.config.budgets is not None and test_set.spec.num_planes < of_run.num_planes)
    if of_run.codec_id == stored.codec_id and not fits:
        raise CallError(
            f"{folder} is read with {test_set.spec.num_planes} bit planes, but {run} was trained on "
            f"{of_run.num_planes}; "
            + ("omit --bytes" if of_run.num_planes <= stored.num_planes else "prepare a data set with as many")
        )
    with progress("evaluate", "samples") as update:
        metrics = classifiers.evaluate(model, test_set, reading=reading, progress=update)
    if classes_path is not None:
        write_atomic(classes_path, metrics.to_csv(model.config.output_names).encode("utf-8"))
    report(
        metric_rows(metrics, chosen_split, model.config.output_names, classes_path),
        json_path,
        {"split": chosen_split, **metrics.to_json()},
    )


def output_names(dataset: LatentDataset) -> Sequence[str] | None:
    """Returns the names of what a model of the data set predicts: its classes, or its regression targets."""
    return dataset.manifest.target_names or dataset.class_names


def metric_rows(
    metrics: AnyMetrics, split: str, names: Sequence[str] | None, classes_path: Path | None
) -> dict[str, object]:
    """Returns the metrics as lines of a report, followed by what is worst.

    For class numbers this is a line of the confusion matrix for each class of lowest recall; for several classes a
    sample, a line for each class of lowest average precision; for regression a line for each target. `names` are those
    of the classes or targets; `classes_path` is the file that has the figures of all.
    """
    from classifiers.evaluation.metrics import Metrics

    rows: dict[str, object] = {"split": f"{split}, {metrics.num_samples:,} labeled samples", **metrics.figures()}
    several = "target" if metrics.__class__.__name__ == "RegressionMetrics" else "class"
    if classes_path is not None:
        rows[f"figures of each {several}"] = str(classes_path)
    if isinstance(metrics, Metrics):
        return rows | _confusion_rows(metrics, names, classes_path)
    return rows | _column_rows(metrics, names, classes_path)


def _confusion_rows(metrics: Metrics, names: Sequence[str] | None, classes_path: Path | None) -> dict[str, object]:
    from classifiers.evaluation.metrics import class_table, confused_classes

    rows: dict[str, object] = {}
    table = class_table(metrics)
    occurring = int((table.samples > 0).sum())
    worst = table.worst(SHOWN_CLASSES)
    if occurring > SHOWN_CLASSES:
        rows["classes"] = f"the {SHOWN_CLASSES} of lowest recall of {occurring:,}{_remedy(classes_path)}"
    for number in worst if occurring > SHOWN_CLASSES else sorted(worst):
        confused = confused_classes(metrics, number)
        texts = [f"{_name(names, predicted)} {count}" for predicted, count in confused[:SHOWN_CONFUSIONS]]
        more = [f"and {len(confused) - SHOWN_CONFUSIONS:,} more"] if len(confused) > SHOWN_CONFUSIONS else []
        rows[f"true {_name(names, number)}, predicted as"] = ", ".join([*texts, *more])
    return rows


def _column_rows(
    metrics: MultilabelMetrics | RegressionMetrics, names: Sequence[str] | None, classes_path: Path | None
) -> dict[str, object]:
    from classifiers.evaluation.multilabel import MultilabelMetrics

    rows: dict[str, object] = {}
    is_multilabel = isinstance(metrics, MultilabelMetrics)
    lists = metrics.classes if is_multilabel else metrics.targets
    quality = lists["average_precision" if is_multilabel else "r2"]
    known = sorted((value, number) for number, value in enumerate(quality) if value is not None)
    numbers = [number for _, number in known[:SHOWN_CLASSES]]
    if len(known) > SHOWN_CLASSES:
        noun, figure = ("classes", "average precision") if is_multilabel else ("targets", "R²")
        rows[noun] = f"the {SHOWN_CLASSES} of lowest {figure} of {len(known):,}{_remedy(classes_path)}"
    else:
        numbers.sort()
    for number in numbers:
        if is_multilabel:
            counts = {name: int(lists[name][number] or 0) for name in ("samples", "predicted", "correct")}
            text = f"average precision {quality[number]:.3f}; " + ", ".join(f"{n} {name}" for name, n in counts.items())
        else:
            text = ", ".join(
                f"{label} {value:.4g}"
                for label, name in (("MAE", "mae"), ("RMSE", "rmse"), ("R²", "r2"))
                if (value := lists[name][number]) is not None
            )
        rows[_name(names, number)] = text
    return rows


def _name(names: Sequence[str] | None, number: int) -> str:
    return names[number] if names else str(number)


def _remedy(classes_path: Path | None) -> str:
    return "" if classes_path else "; --classes PATH writes all"
