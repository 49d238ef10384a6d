"""`report.html`: a comparison as one HTML file, without scripts or anything from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from classifiers.report.charts import confusion
from experiments.comparison.conditions import KINDS
from experiments.comparison.names import METRIC_NAMES
from experiments.comparison.results import BreakEven, ConditionResult, Results, SeenSample
from experiments.report import charts
from experiments.report.table import provenance, table_rows

MAX_MATRIX = 25
"""Largest number of classes whose confusion matrices are drawn."""
MAX_VALUE = 300
"""Characters of a setting."""


@dataclass(frozen=True)
class _Tile:
    value: str
    name: str
    kind: str = ""


@dataclass(frozen=True)
class _Row:
    cells: list[str]
    sufficient: bool


@dataclass(frozen=True)
class _View:
    name: str
    picture: str
    predicted: str
    right: bool


@dataclass(frozen=True)
class _Sample:
    truth: str
    key: str
    reason: str
    original: str
    views: list[_View]


def render(results: Results) -> str:
    """Returns the page; it depends on the results alone."""
    environment = Environment(
        loader=PackageLoader("experiments.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    headings, rows = table_rows(results, str)
    sufficient = {each.condition for each in results.answer.sufficient}
    ordered = sorted(results.conditions, key=lambda each: (each.bytes_per_sample, each.kind))
    cost_headings, cost_rows = _costs(ordered)
    return environment.get_template("report.html").render(
        title=f"{results.source.name}: how many bytes does it need?",
        answer=results.answer,
        tiles=_tiles(results),
        curve_note=_curve_note(results),
        curve_text=_curve_text(ordered, results),
        wide_curve=charts.curve(results, charts.WIDE),
        narrow_curve=charts.curve(results, charts.NARROW),
        table_note=_table_note(results),
        headings=headings,
        rows=[_Row(cells, each.name in sufficient) for cells, each in zip(rows, ordered, strict=True)],
        cost_note="Measured in this run, in float32; a dash where nothing was measured.",
        cost_headings=cost_headings,
        cost_rows=cost_rows,
        break_even=[_break_even_text(each) for each in results.break_even],
        samples=[_sample(each, results) for each in results.samples],
        losses=[(each.name, chart) for each in ordered if (chart := charts.loss_curves(each)) is not None],
        confusions=_confusions(ordered, results),
        statistics=[
            (each.codec, charts.latent_statistics(each.means, each.deviations, each.bits, each.codec))
            for each in results.statistics
        ],
        provenance=provenance(results, str),
        command=results.command,
        settings=[(name, str(value)[:MAX_VALUE]) for name, value in results.settings.items() if value is not None],
    )


def _tiles(results: Results) -> list[_Tile]:
    tiles = []
    for each in results.answer.sufficient:
        value = "more than measured" if each.bytes is None else f"{each.bytes:,.0f} bytes"
        name = f"{KINDS[each.kind].title} need"
        if each.low != each.high or each.bytes is None:
            low = "?" if each.low is None else f"{each.low:,.0f}"
            high = "more" if each.high is None else f"{each.high:,.0f}"
            name += f", 95 %: {low} to {high}"
        tiles.append(_Tile(value, name, each.kind))
    reference = next((each for each in results.conditions if each.name == results.answer.reference), None)
    if reference is not None:
        size = results.source.size
        name = f"full images, {size} × {size} pixels"
        tiles.append(_Tile(f"{reference.bytes_per_sample:,.0f} bytes", name))
        tiles.append(_Tile(f"{mean(reference.scores):.3f}", f"{METRIC_NAMES[results.metric]} of full images"))
    if results.source.file_bytes is not None:
        tiles.append(_Tile(f"{results.source.file_bytes:,.0f} bytes", "the source's own files, at their size"))
    return tiles


def _curve_note(results: Results) -> str:
    margin = 100 * results.answer.margin
    metric = METRIC_NAMES[results.metric]
    return (
        f"{metric[0].upper()}{metric[1:]} of {results.model} on {results.source.num_test:,} tested samples "
        f"({results.source.test}). Bars are 95 % intervals of the difference to the full images; the band below those "
        f"is {margin:g} point{'' if margin == 1 else 's'} wide. Rings mark the smallest sufficient bytes."
    )


def _curve_text(ordered: Sequence[ConditionResult], results: Results) -> str:
    parts = [f"{each.name} at {each.bytes_per_sample:,.0f} bytes {mean(each.scores):.3f}" for each in ordered]
    return f"{METRIC_NAMES[results.metric]} by stored bytes: " + "; ".join(parts)


def _table_note(results: Results) -> str:
    equal = {
        "bytes": "Latents are compared with pixels that take as many stored bytes",
        "values": "Latents are compared with pixels of as many stored values",
        "flops": "Latents are compared with pixels that cost the model as many operations",
        "time": "Latents are compared with pixels that were trained for as long",
    }[results.matched_by]
    return (
        f"{equal}; the model, its input size and the recipe are equal, too. A dot marks what is sufficient, a star "
        "differences whose interval is apart from zero for all comparisons together."
    )


def _costs(ordered: Sequence[ConditionResult]) -> tuple[list[str], list[list[str]]]:
    """Returns the columns of the costs that were measured for any condition."""
    columns = {
        "stored, MB": lambda costs: costs.total_bytes and costs.total_bytes / 1e6,
        "prepared, images/s": lambda costs: costs.prepare_images_per_s,
        "loaded, images/s": lambda costs: costs.load_images_per_s,
        "trained, images/s": lambda costs: costs.train_images_per_s,
        "predicted, images/s": lambda costs: costs.predict_images_per_s,
        "before the model": lambda costs: (
            None if not costs.step_shares else f"{1 - costs.step_shares.get('step', 0):.0%}"
        ),
        "memory, MB": lambda costs: costs.peak_memory_bytes and costs.peak_memory_bytes / 1e6,
        "MFLOPs": lambda costs: costs.flops and costs.flops / 1e6,
        "positions": lambda costs: costs.num_tokens,
    }
    values = {name: [get(each.costs) for each in ordered] for name, get in columns.items()}
    kept = [name for name, column in values.items() if any(value is not None for value in column)]
    rows = [[each.name, *(_amount(values[name][place]) for name in kept)] for place, each in enumerate(ordered)]
    return ["condition", *kept], rows if kept else []


def _amount(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _break_even_text(each: BreakEven) -> str:
    parts = (
        f"Encoding once, as {each.condition}, takes {each.prepare_s:.1f} s; an epoch that decodes the source's files "
        f"takes {each.source_epoch_s:.1f} s, one from what is stored {each.stored_epoch_s:.1f} s"
    )
    if each.measured_epochs is None:
        return f"{parts}: here encoding does not pay by the time that it saves."
    predicted = "" if each.predicted_epochs is None else f" ({each.predicted_epochs:.1f} by the rates of the parts)"
    return f"{parts}: it has paid for itself after {each.measured_epochs:.1f} epochs{predicted}."


def _sample(sample: SeenSample, results: Results) -> _Sample:
    names = results.source.class_names
    label = results.source.labels[sample.index]
    views = []
    for each in sorted(results.conditions, key=lambda one: (one.bytes_per_sample, one.kind)):
        if each.kind == "full" or each.name not in sample.seen:
            continue
        predicted = [run.predicted[sample.index] for run in each.runs if run.predicted[sample.index] >= 0]
        most = max(set(predicted), key=predicted.count) if predicted else -1
        views.append(_View(each.name, sample.seen[each.name], names[most] if most >= 0 else "–", most == label))
    key = results.source.keys[sample.index]
    return _Sample(names[label], key, sample.reason, sample.original, views)


def _confusions(ordered: Sequence[ConditionResult], results: Results) -> list[tuple[str, Markup]]:
    num_classes = len(results.source.class_names)
    if num_classes > MAX_MATRIX:
        return []
    labels = np.asarray(results.source.labels)
    found = []
    for each in ordered:
        counts = np.zeros((num_classes, num_classes), int)
        for run in each.runs:
            predicted = np.asarray(run.predicted)
            known = predicted >= 0
            np.add.at(counts, (labels[known], predicted[known]), 1)
        found.append((each.name, confusion(counts, results.source.class_names)))
    return found
