"""Plots what a classifier keeps, and the PSNR, against the bytes of an image."""

from __future__ import annotations

from pathlib import Path

from experiments.fidelity.outcome import FidelityOutcome
from walloc_cdl.errors import CallError, plot_text
from walloc_cdl.files import open_atomic

# Colorblind-safe (Okabe and Ito): the codec blue, pixels gray, files orange, green and red.
COLORS = ("#0072B2", "#555555", "#E69F00", "#009E73", "#D55E00")


def require_picture(path: Path) -> None:
    """Raise `CallError` unless matplotlib can write files of the path's extension."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if path.suffix.lower().removeprefix(".") not in FigureCanvasAgg.get_supported_filetypes():
        raise CallError(f"{path} has no file extension of an image format; use one such as .png, .pdf or .svg")


def plot_outcome(outcome: FidelityOutcome, path: Path) -> None:
    """Write the plot: top-1, or without labels the share of equal predictions, and the PSNR, against bytes."""
    from matplotlib.figure import Figure

    labeled = outcome.num_labeled > 0
    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    classes, distortion = figure.subplots(1, 2)
    names = list(dict.fromkeys(each.stored for each in outcome.outcomes))
    summaries = outcome.to_json()["summary"]
    for name, color in zip(names, COLORS * len(names), strict=False):
        rows = sorted((row for row in summaries if row["stored"] == name), key=lambda row: row["bytes"])
        sizes = [row["bytes"] for row in rows]
        shares = [row["top1" if labeled else "agreement"] for row in rows]
        classes.plot(sizes, shares, "o-", color=color, label=plot_text(name), markersize=4)
        finite = [(row["bytes"], row["psnr_db"]) for row in rows if row["psnr_db"] is not None]
        distortion.plot(*zip(*finite, strict=True) if finite else ([], []), "o-", color=color, markersize=4)
    if labeled:
        classes.axhline(outcome.top1(outcome.predictions) or 0, color="#999999", linewidth=1, linestyle="--")
    classes.set_ylabel("top-1" if labeled else "share with the class predicted of the original")
    distortion.set_ylabel("PSNR in dB")
    for axes in (classes, distortion):
        axes.set_xscale("log", base=2)
        axes.set_xticks(budgets := sorted({each.budget for each in outcome.outcomes}), [f"{n:,}" for n in budgets])
        axes.tick_params(axis="x", labelsize=8)
        axes.minorticks_off()
        axes.set_xlabel("bytes an image")
        axes.grid(alpha=0.3)
    classes.legend(fontsize=8, loc="lower right")
    title = f"{outcome.classifier} on {len(outcome.keys):,} images of {outcome.source}"
    figure.suptitle(plot_text(title), fontsize=10)
    with open_atomic(path) as file:
        figure.savefig(file, format=path.suffix.lower().removeprefix("."), dpi=150)
