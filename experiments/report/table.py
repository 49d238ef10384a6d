"""The table of a comparison: as Markdown, for a terminal, and as CSV, from its results alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from statistics import mean, stdev

from experiments.comparison.differences import Difference, signed
from experiments.comparison.names import METRIC_NAMES
from experiments.comparison.results import ConditionResult, Results
from walloc_cdl.errors import markdown_text, terminal_text

MAX_DIGITS = 3


def difference_to(results: Results, condition: str, kind: str) -> Difference | None:
    """Returns the difference of a condition to the one of a kind, None if there is none."""
    kinds = {each.name: each.kind for each in results.conditions}
    for difference in results.differences:
        if difference.condition == condition and kinds[difference.baseline] == kind:
            return difference
    return None


def interval_text(difference: Difference | None) -> str:
    """Returns `+0.012 [-0.003, +0.027]`, with a star if the simultaneous interval is apart from zero."""
    if difference is None:
        return "–"
    if difference.low is None or difference.high is None:
        return f"{signed(difference.mean)} [–]"
    star = " *" if is_certain(difference) else ""
    return f"{signed(difference.mean)} [{signed(difference.low)}, {signed(difference.high)}]{star}"


def is_certain(difference: Difference) -> bool:
    """Whether the interval that holds for all comparisons together has only one sign."""
    low, high = difference.simultaneous_low, difference.simultaneous_high
    return low is not None and high is not None and (low > 0 or high < 0)


def table_rows(results: Results, shown: Callable[[str], str] = terminal_text) -> tuple[list[str], list[list[str]]]:
    """Returns headings and rows of cells, with a row for each condition; `shown` escapes names for a medium."""
    metric = METRIC_NAMES[results.metric]
    several = max(len(each.runs) for each in results.conditions) > 1
    headings = ["condition", "stored", "bytes", "PSNR dB", metric, *(["std"] if several else [])]
    headings += ["to full images [95 %]", "latents to pixels [95 %]"]
    rates = results.method == "train"
    headings += ["train images/s"] if rates else []
    rows = []
    for each in sorted(results.conditions, key=lambda one: (one.bytes_per_sample, one.kind)):
        cells = [shown(each.name), shown(each.stored), f"{each.bytes_per_sample:,.0f}", psnr_text(each)]
        cells += [f"{mean(each.scores):.3f}", *([deviation_text(each)] if several else [])]
        cells += [interval_text(difference_to(results, each.name, kind)) for kind in ("full", "pixels")]
        if rates:
            rate = each.costs.train_images_per_s
            cells.append("–" if rate is None else f"{rate:,.0f}")
        rows.append(cells)
    return headings, rows


def psnr_text(condition: ConditionResult) -> str:
    """Returns the PSNR in dB; a dash where nothing was lost or measured."""
    return "–" if condition.psnr_db is None else f"{condition.psnr_db:.1f}"


def deviation_text(condition: ConditionResult) -> str:
    """Returns the standard deviation over the runs; a dash for a single one."""
    return f"{stdev(condition.scores):.3f}" if len(condition.runs) > 1 else "–"


def provenance(results: Results, shown: Callable[[str], str]) -> str:
    """Returns samples, runs and environment in a sentence."""
    environment = ", ".join(
        shown(f"{name} {' and '.join(map(str, value)) if isinstance(value, list) else value}")
        for name, value in results.environment.items()
        if value is not None
    )
    source = results.source
    runs = ", ".join(dict.fromkeys(run.name for each in results.conditions for run in each.runs))
    return (
        f"{source.num_train:,} training and {source.num_test:,} tested samples ({shown(source.test)}), {shown(runs)}; "
        f"{environment}."
    )


def markdown(results: Results) -> str:
    """Returns the answer, the notes, the table, and what they are based on."""
    headings, rows = table_rows(results, markdown_text)
    lines = [f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows)]
    notes = [markdown_text(note) for note in results.answer.notes]
    if any("*" in cell for row in rows for cell in row[-3:]):
        notes.append("A star marks differences whose interval is apart from zero for all comparisons together.")
    return (
        "\n\n".join(
            [markdown_text(results.answer.sentence), *notes, "\n".join(lines), provenance(results, markdown_text), ""]
        ).rstrip("\n")
        + "\n"
    )


def csv_text(results: Results) -> str:
    """Returns a row for each run of each condition."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = sorted({name for each in results.conditions for name in each.setting})
    writer.writerow(
        ["condition", "kind", "stored", "bytes", "values", "psnr_db", "run", results.metric, *names, "elapsed_s"]
    )
    for each in results.conditions:
        for run in each.runs:
            psnr = "" if each.psnr_db is None else f"{each.psnr_db:.4f}"
            fixed: Sequence[object] = [each.name, each.kind, each.stored, each.bytes_per_sample, each.values_per_sample]
            settings = [each.setting.get(name, "") for name in names]
            writer.writerow([*fixed, psnr, run.name, run.score, *settings, f"{run.elapsed_s:.3f}"])
    return buffer.getvalue()
