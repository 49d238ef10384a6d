"""The charts of a run's page as SVG, by matplotlib."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from classifiers.evaluation.calibration import NUM_BINS, Calibration

BLUE, ORANGE, GRAY, DARK = "#2368a8", "#cf6a17", "#8a939c", "#30363c"
MAX_POINTS = 2000
"""Of a scatter plot."""
MAX_NAME = 22
"""Characters of a name beside a chart."""
_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "font.size": 9.5,
    "axes.edgecolor": "#c3c9cf",
    "axes.labelcolor": DARK,
    "text.color": DARK,
    "xtick.color": "#c3c9cf",
    "ytick.color": "#c3c9cf",
    "xtick.labelcolor": DARK,
    "ytick.labelcolor": DARK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e6e9ec",
}


def curves(series: Mapping[str, Sequence[float | None]], label: str, *, percent: bool = False) -> Markup:
    """Return lines over the epochs, each from a list with a value for every epoch, None where there is none."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for (name, values), color in zip(series.items(), (BLUE, ORANGE, GRAY), strict=False):
            points = [(epoch, value) for epoch, value in enumerate(values, start=1) if value is not None]
            marker = "o" if len(points) <= 40 else None
            axes.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=3, linewidth=1.6, label=name)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.grid(axis="y")
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=8.5)

    return svg(f"curves {label}", (3.4, 2.7), draw)


def confusion(counts: np.ndarray, names: Sequence[str]) -> Markup:
    """Return the matrix (n, n) of the counts of true and predicted classes, colored by the shares of the true ones."""
    size = len(counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        shown = [_short(name) for name in names]
        axes.set_xticks(range(size), shown, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
        axes.set_yticks(range(size), shown, parse_math=False)
        axes.tick_params(length=0)
        axes.set(xlabel="predicted", ylabel="true")
        axes.set_xticks(np.arange(1, size) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, size) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.2)
        axes.tick_params(which="minor", length=0)
        axes.spines[:].set_visible(False)
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "white" if shares[row, column] > 0.55 else DARK
            small = 8.5 if size <= 12 else 6
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=color, fontsize=small)

    side = min(2.4 + 0.36 * size, 10.5)
    return svg("confusion", (side, side), draw)


def reliability(calibration: Calibration) -> Markup:
    """Return the accuracy over the confidence, and how often each confidence occurs."""
    samples = np.array(calibration.samples)
    left = np.arange(NUM_BINS) / NUM_BINS

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        used = samples > 0
        style = {"width": 1 / NUM_BINS, "align": "edge", "edgecolor": "white"}
        above.bar(left[used], np.array(calibration.accuracy)[used], color=BLUE, **style)
        above.plot([0, 1], [0, 1], color=ORANGE, linewidth=1.3, linestyle="--", label="as right as it is sure")
        above.set(ylabel="right", xlim=(0, 1), ylim=(0, 1))
        above.legend(frameon=False, loc="upper left")
        below.bar(left, samples / max(samples.sum(), 1), color=GRAY, **style)
        below.set(xlabel="confidence", ylabel="samples")
        for axis in (above.xaxis, above.yaxis, below.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        below.yaxis.set_major_locator(MaxNLocator(2))
        for axes in (above, below):
            axes.grid(axis="y")

    return svg("reliability", (4.0, 3.7), draw)


def scatter(truth: np.ndarray, predicted: np.ndarray, name: str) -> Markup:
    """Return predictions (N,) over known targets (N,), at most `MAX_POINTS` of them, evenly chosen."""
    rows = np.unique(np.linspace(0, len(truth) - 1, min(len(truth), MAX_POINTS)).round().astype(int))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        low, high = min(truth.min(), predicted.min()), max(truth.max(), predicted.max())
        axes.plot([low, high], [low, high], color=ORANGE, linewidth=1.3, linestyle="--")
        axes.scatter(truth[rows], predicted[rows], s=9, color=BLUE, alpha=0.55, linewidth=0)
        axes.set(xlabel="true", ylabel="predicted")
        axes.set_title(_short(name), fontsize=10, parse_math=False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
        axes.grid()

    return svg(f"scatter {name}", (3.6, 3.4), draw)


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def svg(salt: str, size: tuple[float, float], draw: Callable[[Figure], None]) -> Markup:
    """Return what `draw` draws in a figure of `size` inches, as an element of HTML, the same for the same data.

    `salt` makes the names in it differ from those of other charts of the page.
    """
    stream = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that matplotlib's font lacks, and browsers have
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return Markup(text[text.index("<svg") :])
