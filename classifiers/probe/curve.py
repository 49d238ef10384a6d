"""Plots the accuracy of a probe against the bytes of a sample."""

from __future__ import annotations

from pathlib import Path

from classifiers.probe.heads import HEADS
from classifiers.probe.probe import ProbeResult
from walloc_cdl.errors import CallError, plot_text
from walloc_cdl.files import open_atomic

# Colorblind-safe (Okabe and Ito).
COLORS = dict(zip(HEADS, ("#0072B2", "#E69F00", "#009E73"), strict=True))


def require_picture(path: Path) -> None:
    """Raise `CallError` unless matplotlib can write files of the path's extension."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if path.suffix.lower().removeprefix(".") not in FigureCanvasAgg.get_supported_filetypes():
        raise CallError(f"{path} has no file extension of an image format; use one such as .png, .pdf or .svg")


def plot_probe(result: ProbeResult, path: Path) -> None:
    """Write the curve of each head, with the share of the most frequent class as a dashed line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    for head in dict.fromkeys(row.head for row in result.rows):
        rows = sorted((row for row in result.rows if row.head == head), key=lambda row: row.num_bytes)
        sizes, shares = [row.num_bytes for row in rows], [row.accuracy for row in rows]
        axes.plot(sizes, shares, "o-", color=COLORS[head], label=HEADS[head].title, markersize=4)
    axes.axhline(result.majority, color="#999999", linewidth=1, linestyle="--", label="most frequent class")
    ticks = sorted({row.num_bytes for row in result.rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{size:,}" for size in ticks])
    axes.minorticks_off()
    axes.set_xlabel("bytes a sample")
    axes.set_ylabel(f"accuracy, {result.num_test:,} samples")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.suptitle(plot_text(f"{result.features}: {Path(result.data).name}"), fontsize=10)
    with open_atomic(path) as file:
        figure.savefig(file, format=path.suffix.lower().removeprefix("."), dpi=150)
