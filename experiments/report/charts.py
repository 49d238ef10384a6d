"""The charts of a comparison as SVG, by matplotlib; colors that a page replaces in the dark are those of `charts`."""

from __future__ import annotations

from statistics import mean

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from classifiers.report.charts import BLUE, DARK, GRAY, ORANGE, svg
from experiments.comparison.conditions import KINDS
from experiments.comparison.names import METRIC_NAMES
from experiments.comparison.results import ConditionResult, Results
from experiments.report.table import difference_to

COLORS = {"pixels": GRAY, "latents": BLUE, "jpeg": ORANGE}
SMALLEST_SPAN = 0.05
"""Smallest range of the metric that is drawn: otherwise noise would look like a difference."""
WIDE, NARROW = (8.6, 4.4), (4.1, 4.0)
"""Sizes in inches for screens of 1,400 and 400 pixels."""


def curve(results: Results, size: tuple[float, float] = WIDE) -> Markup:
    """Returns the metric over the stored bytes of each kind, with the full images and the margin below them."""
    reference = next((each for each in results.conditions if each.kind == "full"), None)
    is_wide = size[0] > 6

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_xscale("log", base=2)
        if reference is not None:
            score = mean(reference.scores)
            axes.axhspan(score - results.answer.margin, score, color="#c3c9cf", alpha=0.35, linewidth=0)
            axes.axhline(score, color=DARK, linewidth=1.1)
        lows, highs = [], []
        for kind, color in COLORS.items():
            own = sorted(
                (each for each in results.conditions if each.kind == kind), key=lambda each: each.bytes_per_sample
            )
            for series in _series(own):
                sizes, scores = [each.bytes_per_sample for each in series], [mean(each.scores) for each in series]
                bounds = [_bounds(results, each, reference) for each in series]
                errors = [[score - low for score, (low, _) in zip(scores, bounds, strict=True)]]
                errors += [[high - score for score, (_, high) in zip(scores, bounds, strict=True)]]
                title = KINDS[kind].title + ("" if series[0].stem != "channels" else " as channels")
                style = "none" if KINDS[kind].is_reference else "-"
                axes.errorbar(
                    sizes,
                    scores,
                    yerr=errors,
                    color=color,
                    linestyle=style,
                    marker="o",
                    markersize=5,
                    linewidth=1.9,
                    elinewidth=1,
                    capsize=2.5,
                    label=title,
                )
                lows += [low for low, _ in bounds]
                highs += [high for _, high in bounds]
        for each in results.answer.sufficient:
            found = next((one for one in results.conditions if one.name == each.condition), None)
            if found is not None and found.kind != "full":
                axes.plot(
                    found.bytes_per_sample,
                    mean(found.scores),
                    "o",
                    markersize=13,
                    markerfacecolor="none",
                    markeredgecolor=COLORS[found.kind],
                    markeredgewidth=1.6,
                )
        sizes = sorted(
            {round(each.bytes_per_sample) for each in results.conditions if each.kind in ("pixels", "latents")}
        )
        if reference is not None:
            highs.append(mean(reference.scores))
            lows.append(mean(reference.scores) - results.answer.margin)
        if lows and max(highs) - min(lows) < SMALLEST_SPAN:
            middle = (max(highs) + min(lows)) / 2
            axes.set_ylim(middle - SMALLEST_SPAN / 2, middle + SMALLEST_SPAN / 2)
        if sizes:
            axes.set_xlim(sizes[0] / 1.7, sizes[-1] * (1.7 if is_wide else 2.2))
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=0 if is_wide else 35)
        if reference is not None:
            bytes_text = f"{reference.bytes_per_sample:,.0f} bytes"
            text = f"full images, {bytes_text}" if is_wide else "full images"
            axes.annotate(
                text,
                (axes.get_xlim()[1], mean(reference.scores)),
                xytext=(-4, 5),
                textcoords="offset points",
                ha="right",
                color=DARK,
            )
        axes.legend(frameon=False, loc="lower right", labelcolor="linecolor", prop={"weight": "bold"})
        axes.minorticks_off()
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3f}".rstrip("0").ljust(4, "0")))
        axes.set_xlabel("stored bytes an image")
        axes.set_ylabel(METRIC_NAMES[results.metric])
        axes.grid(axis="y")

    return svg(f"curve {size}", size, draw)


def loss_curves(condition: ConditionResult) -> Markup | None:
    """Returns the training loss of each run over the epochs; None without any."""
    histories = [run.history for run in condition.runs if any(point.loss is not None for point in run.history)]
    if not histories:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for history in histories:
            points = [(point.epoch, point.loss) for point in history if point.loss is not None]
            axes.plot(*zip(*points, strict=True), color=COLORS.get(condition.kind, DARK), linewidth=1.3, alpha=0.8)
        axes.set(xlabel="epoch", ylabel="training loss")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(axis="y")

    return svg(f"loss {condition.name}", (2.9, 2.2), draw)


def latent_statistics(means: list[float], deviations: list[float], bits: list[int], name: str) -> Markup:
    """Returns mean and deviation of the codes of each channel, above its stored bits."""

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        channels = range(len(means))
        above.errorbar(channels, means, yerr=deviations, fmt="o", color=BLUE, markersize=3, elinewidth=1)
        above.set_ylabel("code")
        above.grid(axis="y")
        below.bar(channels, bits, color=GRAY)
        below.set(xlabel="latent channel", ylabel="bits")
        below.xaxis.set_major_locator(MaxNLocator(8, integer=True))

    return svg(f"statistics {name}", (5.2, 3.2), draw)


def _series(conditions: list[ConditionResult]) -> list[list[ConditionResult]]:
    """Returns the conditions of a kind by stem and grid, each a line of its own."""
    series: dict[tuple[object, object], list[ConditionResult]] = {}
    for each in conditions:
        series.setdefault((each.stem, each.grid), []).append(each)
    return list(series.values())


def _bounds(results: Results, condition: ConditionResult, reference: ConditionResult | None) -> tuple[float, float]:
    """Returns the score with the interval of its difference to the full images; the score alone without one."""
    score = mean(condition.scores)
    difference = difference_to(results, condition.name, "full")
    if reference is None or difference is None or difference.low is None or difference.high is None:
        return score, score
    base = mean(reference.scores)
    return max(0.0, min(score, base + difference.low)), min(1.0, max(score, base + difference.high))
