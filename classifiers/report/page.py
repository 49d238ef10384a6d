"""The page of a run: one HTML file, without scripts or anything from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from classifiers.evaluation.kinds import AnyMetrics
from classifiers.evaluation.metrics import Metrics, class_table
from classifiers.evaluation.multilabel import MultilabelMetrics
from classifiers.evaluation.predictions import Answers, Predictions
from classifiers.evaluation.reading import Reading, unit_rows
from classifiers.evaluation.regression import RegressionMetrics
from classifiers.models.config import ClassifierConfig
from classifiers.report import charts
from classifiers.report.mistakes import Mistake, output_name, worst_mistakes
from classifiers.report.pictures import sample_pictures
from walloc_cdl.data import LatentDataset
from walloc_cdl.training import EpochFigures

MAX_MATRIX = 25
"""Largest number of classes whose confusion matrix is drawn."""
MAX_ROWS = 100
"""Of the table of classes or targets."""
MAX_PAIRS = 12
MAX_SCATTERS = 6
MAX_VALUE = 300
"""Characters of a setting."""

_SHARES = {"accuracy", "mAP", "top-5 accuracy", "macro F1", "micro F1", "exact match"}
"""Figures that are shown as percentages."""
_CURVES = {
    "accuracy": "accuracy",
    "mean_average_precision": "mAP",
    "top5": "top-5 accuracy",
    "macro_f1": "macro F1",
    "exact_match": "exact match",
}
"""Metrics whose curves are drawn, the first three that a run has, with what they are called."""
_HIDDEN = {"class_names", "target_names", "planes", "spec"}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An evaluation of the model of a run, with the predictions that its metrics follow from."""

    metrics: AnyMetrics
    outcome: Answers | Predictions
    dataset: LatentDataset
    reading: Reading
    """How the samples were read."""


@dataclass(frozen=True)
class _Shown:
    """A mistake with its picture, None without one, and the key of its sample."""

    truth: str
    answer: str
    key: str
    picture: str | None


@dataclass(frozen=True)
class _Cell:
    """A cell of a table; `share`, in percent, is drawn as a bar."""

    text: str
    share: float | None = None


@dataclass(frozen=True)
class _Table:
    title: str
    note: str
    headings: Sequence[str]
    rows: Sequence[Sequence[_Cell]]


def run_page(
    title: str,
    config: ClassifierConfig,
    settings: Mapping[str, Any],
    history: Sequence[EpochFigures],
    environment: Mapping[str, Any],
    evaluation: Evaluation | None,
) -> str:
    """Return the page of a run as HTML.

    `settings` is the run's configuration, as in its config.json. All names, which may come from foreign data, are
    escaped.
    """
    template = Environment(
        loader=PackageLoader("classifiers", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template("page.html")
    metrics = None if evaluation is None else evaluation.metrics
    figures = {} if metrics is None else metrics.figures()
    names = config.output_names
    calibration = metrics.calibration if isinstance(metrics, Metrics | MultilabelMetrics) else None
    mistakes = [] if evaluation is None else _shown_mistakes(evaluation, names)
    return template.render(
        title=title,
        lead=_lead(config),
        tiles=[(name, figure_text(name, value)) for name, value in figures.items()],
        evaluated="" if evaluation is None else _evaluated(evaluation),
        training=_training(history, environment),
        curves=_curves(history),
        confusion=_confusion(metrics, names),
        pairs=_pairs(metrics, names),
        reliability=None if calibration is None else charts.reliability(calibration),
        reliability_note="" if calibration is None else _reliability_note(metrics),
        mistakes=mistakes,
        mistakes_note="" if evaluation is None else _mistakes_note(evaluation, len(mistakes)),
        scatters=[] if evaluation is None else _scatters(evaluation, names),
        scatters_note="Predicted over true targets; the dashed line is where they are equal.",
        table=_table(metrics, names),
        settings=[*_flat(settings), *_flat({"environment": environment})],
    )


def figure_text(name: str, value: float) -> str:
    """Return a figure as text, such as 93.4 % for an accuracy."""
    return f"{100 * value:.1f} %" if name in _SHARES else f"{value:.3g}" if abs(value) >= 1 else f"{value:.3f}"


def _lead(config: ClassifierConfig) -> str:
    height, width = config.input_size
    outputs = {"class": "classes", "multilabel": "classes, several a sample", "regression": "regression targets"}
    shape = " × ".join(map(str, config.latent_shape))
    start = "published weights" if config.pretrained else "random weights"
    noun = "pixels" if config.spectrogram is None else "values of a spectrogram"
    return (
        f"{config.name} from {start}, stem {config.stem}, {height} × {width} {noun} from {shape} latents, "
        f"{config.num_classes:,} {outputs[config.label_kind]}"
    )


def _evaluated(evaluation: Evaluation) -> str:
    dataset = evaluation.dataset
    return f"On {evaluation.metrics.num_samples:,} labeled samples of the split {dataset.split} of {dataset.folder}."


def _training(history: Sequence[EpochFigures], environment: Mapping[str, Any]) -> str:
    rate = float(np.median([epoch.images_per_s for epoch in history]))
    device = environment.get("device") or environment.get("processor") or ""
    where = f" on {device}" if isinstance(device, str) and device else ""
    return f"{len(history):,} epochs, {rate:,.0f} samples/s{where}; loss of the last epoch {history[-1].loss:.4g}."


def _curves(history: Sequence[EpochFigures]) -> list[Markup]:
    """Return the charts of the loss, of the first metric that is followed, and of the learning rate."""
    followed = [epoch.metrics or {} for epoch in history]
    names = {name for metrics in followed for name in metrics}
    losses: dict[str, list[float | None]] = {"training": [epoch.loss for epoch in history]}
    if "log_loss" in names:
        losses["validation"] = [metrics.get("log_loss") for metrics in followed]
    found = [charts.curves(losses, "loss")]
    shares = [name for name in _CURVES if name in names][:3]
    if shares:
        values = {_CURVES[name]: [metrics.get(name) for metrics in followed] for name in shares}
        found.append(charts.curves(values, "validation", percent=True))
    elif "r2" in names:
        found.append(charts.curves({"R²": [metrics.get("r2") for metrics in followed]}, "R²"))
    return [*found, charts.curves({"learning rate": [epoch.lr for epoch in history]}, "learning rate")]


def _confusion(metrics: AnyMetrics | None, names: Sequence[str] | None) -> Markup | None:
    if not isinstance(metrics, Metrics) or metrics.num_classes > MAX_MATRIX:
        return None
    counts = np.zeros((metrics.num_classes, metrics.num_classes), np.int64)
    counts[metrics.confusion["true"], metrics.confusion["predicted"]] = metrics.confusion["count"]
    return charts.confusion(counts, [output_name(names, number) for number in range(metrics.num_classes)])


def _pairs(metrics: AnyMetrics | None, names: Sequence[str] | None) -> list[dict[str, str]]:
    """Return the most frequent pairs of a true class and another that was predicted."""
    if not isinstance(metrics, Metrics):
        return []
    true, predicted, count = (np.asarray(metrics.confusion[name]) for name in ("true", "predicted", "count"))
    samples = class_table(metrics).samples
    wrong = np.flatnonzero(true != predicted)
    order = wrong[np.argsort(-count[wrong], kind="stable")][:MAX_PAIRS]
    return [
        {
            "truth": output_name(names, true[each]),
            "answer": output_name(names, predicted[each]),
            "count": f"{count[each]:,}",
            "share": f"{count[each] / samples[true[each]]:.0%}",
        }
        for each in map(int, order)
    ]


def _reliability_note(metrics: AnyMetrics | None) -> str:
    if isinstance(metrics, MultilabelMetrics):
        return f"How often a class applies, by its probability. The mean distance (ECE) is {metrics.ece:.3f}."
    ece = metrics.ece if isinstance(metrics, Metrics) else None
    text = "" if ece is None else f" The mean distance (ECE) is {ece:.3f}."
    return f"How often predictions are right, by the probability of the predicted class.{text}"


def _shown_mistakes(evaluation: Evaluation, names: Sequence[str] | None) -> list[_Shown]:
    found: list[Mistake] = worst_mistakes(evaluation.outcome, names)
    first_rows = unit_rows(evaluation.dataset, evaluation.reading)
    rows = [mistake.row if first_rows is None else int(first_rows[mistake.row]) for mistake in found]
    pictures = sample_pictures(evaluation.dataset, rows) or [None] * len(rows)
    keys = evaluation.dataset.keys(rows)
    return [
        _Shown(mistake.truth, mistake.answer, key, picture)
        for mistake, key, picture in zip(found, keys, pictures, strict=True)
    ]


def _mistakes_note(evaluation: Evaluation, count: int) -> str:
    what = {
        Metrics: "samples of which another class was predicted, with the probabilities of both",
        MultilabelMetrics: "samples with the largest error of a probability",
        RegressionMetrics: "samples with the largest error of a target",
    }[type(evaluation.metrics)]
    return f"The {count} {what}, the worst first, as the latents show them. Below each is the sample's key."


def _scatters(evaluation: Evaluation, names: Sequence[str] | None) -> list[Markup]:
    outcome = evaluation.outcome
    if not isinstance(outcome, Predictions) or outcome.label_kind != "regression":
        return []
    targets = outcome.labels.reshape(len(outcome.labels), -1)
    drawn = []
    for column in range(min(targets.shape[1], MAX_SCATTERS)):
        known = ~np.isnan(targets[:, column])
        if known.any():
            name = output_name(names, column)
            drawn.append(charts.scatter(targets[known, column], outcome.logits[known, column], name))
    return drawn


def _table(metrics: AnyMetrics | None, names: Sequence[str] | None) -> _Table | None:
    """Return the figures of each class or target, the worst first."""
    if metrics is None:
        return None
    if isinstance(metrics, RegressionMetrics):
        lists = metrics.targets
        order = sorted(range(metrics.num_targets), key=lambda number: _rank(lists["r2"][number]))
        rows = [
            [
                _Cell(output_name(names, number)),
                _Cell(f"{int(lists['samples'][number] or 0):,}"),
                *(_Cell(_number(lists[name][number])) for name in ("mae", "rmse", "r2")),
            ]
            for number in order[:MAX_ROWS]
        ]
        return _Table("Targets", _table_note("R²", len(order)), ("target", "samples", "MAE", "RMSE", "R²"), rows)
    if isinstance(metrics, MultilabelMetrics):
        figures = metrics.rows()
        headings = {"recall": "recall", "precision": "precision", "f1": "F1", "average_precision": "average precision"}
        worst, noun = "average_precision", "average precision"
    else:
        table = class_table(metrics)
        figures = [
            {name: float(getattr(table, name)[number]) for name in ("samples", "recall", "precision", "f1")}
            for number in range(metrics.num_classes)
        ]
        headings, worst, noun = {"recall": "recall", "precision": "precision", "f1": "F1"}, "recall", "recall"
    order = sorted(range(len(figures)), key=lambda number: _rank(figures[number][worst]))
    rows = [
        [
            _Cell(output_name(names, number)),
            _Cell(f"{int(figures[number]['samples'] or 0):,}"),
            *(_bar(figures[number][name]) for name in headings),
        ]
        for number in order[:MAX_ROWS]
    ]
    return _Table("Classes", _table_note(noun, len(order)), ("class", "samples", *headings.values()), rows)


def _table_note(figure: str, count: int) -> str:
    part = f" The {MAX_ROWS} worst of {count:,}; classes.csv has all." if count > MAX_ROWS else ""
    return f"In the order of {figure}, the lowest first.{part}"


def _rank(value: float | None) -> float:
    """Return what undefined figures are sorted by: last."""
    return np.inf if value is None or np.isnan(value) else value


def _bar(value: float | None) -> _Cell:
    if value is None or np.isnan(value):
        return _Cell("–")
    return _Cell(f"{100 * value:.1f} %", round(100 * value, 1))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the settings, such as `train.lr`, with their values as JSON; long ones are left out or cut."""
    for name, value in values.items():
        if name in _HIDDEN:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{prefix}{name}", text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 1]}…"
