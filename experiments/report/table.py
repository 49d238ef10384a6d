"""Table and plot of a comparison, from its `results.json` alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from experiments.comparison.differences import Difference, signed
from experiments.comparison.outcome import METRIC_NAMES, ConditionOutcome, Outcome, summarize
from walloc_cdl.errors import markdown_text, plot_text, terminal_text
from walloc_cdl.files import open_atomic, write_atomic

TABLE_NAME, PLOT_NAME = "table.md", "plot.png"

# Colorblind-safe (Okabe and Ito): baselines gray, latents blue, latents as channels orange.
BASELINE_COLOR = "#555555"
STEM_COLORS = {"synthesis": "#0072B2", "channels": "#E69F00"}

MARKERS = "os^Dv"
"""One marker for each grid, in ascending order, since conditions may differ in the grid only."""

SMALLEST_SPAN = 0.06
"""Smallest range of the metric that the plot shows."""


def table_rows(outcome: Outcome, shown: Callable[[str], str] = terminal_text) -> tuple[list[str], list[list[str]]]:
    """Returns headings and rows of cells, with a row for each condition; `shown` escapes names for a medium."""
    metric = METRIC_NAMES[outcome.metric]
    headings = ["condition", "stem", "grid", metric, "std", "difference [95 %]", "values", "bytes", "train images/s"]
    differences = {difference.condition: difference for difference in outcome.differences}
    rows = [_row(condition, differences.get(condition.name), outcome.metric, shown) for condition in outcome.conditions]
    return headings, rows


def _row(
    condition: ConditionOutcome, difference: Difference | None, metric: str, shown: Callable[[str], str]
) -> list[str]:
    average, deviation = summarize(condition.scores(metric))
    difference_text = "–"
    if difference:
        interval = "[–]"
        if difference.low is not None and difference.high is not None:
            interval = f"[{signed(difference.low)}, {signed(difference.high)}]"
        difference_text = f"{signed(difference.mean)} {interval} to {shown(difference.baseline)}"
    return [
        shown(condition.name),
        shown(condition.stem),
        str(condition.grid),
        f"{average:.3f}",
        f"{deviation:.3f}",
        difference_text,
        f"{condition.values_per_sample:,}",
        f"{condition.bytes_per_sample:,}",
        f"{condition.images_per_s():,.0f}",
    ]


def markdown(outcome: Outcome) -> str:
    """Returns the table, the sentence, and the number of samples, seeds and environment that they are based on."""
    headings, rows = table_rows(outcome, markdown_text)
    lines = [f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows)]
    environment = ", ".join(
        markdown_text(f"{name} {' and '.join(map(str, value)) if isinstance(value, list) else value}")
        for name, value in outcome.environment.items()
        if value is not None
    )
    return "\n".join(
        [
            *lines,
            "",
            markdown_text(outcome.sentence),
            "",
            f"{outcome.num_train:,} training and {outcome.num_test:,} test samples, seeds {outcome.seeds}; "
            f"{environment}.",
            "",
        ]
    )


def write_report(outcome: Outcome, folder: Path) -> None:
    """Write the table and the plot to `folder`."""
    write_atomic(folder / TABLE_NAME, markdown(outcome).encode())
    _plot(outcome, folder / PLOT_NAME)


def _plot(outcome: Outcome, path: Path) -> None:
    """Plot the metric against stored bytes per sample, with a dot for each seed and a bar at the mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    grids = sorted({condition.grid for condition in outcome.conditions})
    for condition in outcome.conditions:
        scores = condition.scores(outcome.metric)
        marker = MARKERS[grids.index(condition.grid) % len(MARKERS)]
        color = BASELINE_COLOR if condition.kind.is_baseline else STEM_COLORS[condition.stem]
        # Conditions that store equally many bytes are drawn side by side around the true position.
        group = [other for other in outcome.conditions if other.bytes_per_sample == condition.bytes_per_sample]
        shift = 1.12 ** (group.index(condition) - (len(group) - 1) / 2)
        x = condition.bytes_per_sample * shift
        average, _ = summarize(scores)
        label = plot_text(condition.name)
        axes.plot([x] * len(scores), scores, marker, color=color, alpha=0.55, markersize=6, label=label)
        axes.plot([x], [average], "_", color=color, markersize=22, markeredgewidth=2.5)
        axes.annotate(
            f"{average:.3f}", (x, average), xytext=(12, 0), textcoords="offset points", va="center", fontsize=8
        )
    low, high = axes.get_ylim()
    if high - low < SMALLEST_SPAN:  # otherwise noise would look like a difference
        axes.set_ylim((low + high - SMALLEST_SPAN) / 2, (low + high + SMALLEST_SPAN) / 2)
    axes.set_xscale("log", base=2)
    sizes = sorted({condition.bytes_per_sample for condition in outcome.conditions})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xlim(sizes[0] / 1.6, sizes[-1] * 1.6)
    axes.minorticks_off()
    axes.set_xlabel("stored bytes per sample")
    axes.set_ylabel(f"{METRIC_NAMES[outcome.metric]} on the test split")
    title = f"{outcome.model} on {outcome.source}, {outcome.size} px, {len(outcome.seeds)} seeds"
    axes.set_title(plot_text(title), fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, loc="best")
    with open_atomic(path) as file:
        figure.savefig(file, format="png", dpi=150)
