"""`cdl probe`: what simple classifiers make of a data set, before a network is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from walloc_cdl.cli.console import PhaseProgress, report, table
from walloc_cdl.cli.options import JsonPath, Seed, Threads, require_local, require_parent
from walloc_cdl.errors import CallError
from walloc_cdl.files import foreign_names, make_folder
from walloc_cdl.machine import wait_without_spinning_if_busy

CACHE_NAME = "features"
REPORT_NAME = "probe.json"
CURVE_NAME = "curve.png"


def probe(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder of the data set, or its address.")],
    features: Annotated[str, typer.Option(help="Without --model: pooled latents or pixels.")] = "latents",
    model: Annotated[
        str | None, typer.Option("--model", help="A timm model, frozen and pretrained, whose features are used.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="With --model: safetensors file of its weights; default the published ones.")
    ] = None,
    grid: Annotated[int | None, typer.Option(help="With --model: height of its input in pixels.")] = None,
    num_bytes: Annotated[
        str | None,
        typer.Option("--bytes", metavar="N,N,…", help="Bytes of each sample, of latents with bit planes; default all."),
    ] = None,
    heads: Annotated[str, typer.Option(help="From logistic, knn and svm, separated by commas.")] = "logistic,knn,svm",
    split: Annotated[str | None, typer.Option(help="Split to test on; default test or validation.")] = None,
    folds: Annotated[int | None, typer.Option(help="Cross-validate over all splits instead.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder for computed features, the report and the curve.", callback=require_local
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the curve to this file.", callback=require_parent)] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default the GPU if there is one.")] = None,
    threads: Threads = None,
    seed: Seed = 0,
    json_path: JsonPath = None,
) -> None:
    """Tell the classes apart by simple classifiers.

    This shows in a minute or two what a data set is good for. Logistic regression, nearest neighbors and a linear SVM
    are fitted to features of the training samples, with their setting chosen by cross-validation, and tested on the
    others. With --out, computed features are kept for the next call.
    """
    wait_without_spinning_if_busy()
    from classifiers.probe.curve import plot_probe, require_picture
    from classifiers.probe.features import NetworkFeatures, PooledFeatures
    from classifiers.probe.heads import HEADS, choose_heads
    from classifiers.probe.probe import probe as run_probe
    from walloc_cdl.devices import choose_device

    if model is None and (weights is not None or grid is not None):
        option = "--weights" if weights is not None else "--grid"
        raise CallError(f"{option} is for a network; add --model NAME")
    if plot is not None:
        require_picture(plot)
    if out is not None:
        _require_probe_folder(out)
    chosen = choose_heads([name.strip() for name in heads.split(",") if name.strip()])
    computed = PooledFeatures(features) if model is None else NetworkFeatures(model, weights, grid)
    with PhaseProgress("samples") as phases:
        result = run_probe(
            folder,
            computed,
            chosen,
            budgets=_parse_bytes(num_bytes),
            split=split,
            folds=folds,
            cache=None if out is None else out / CACHE_NAME,
            device=choose_device(device),
            threads=threads,
            seed=seed,
            on_phase=phases.update,
        )
    headings = ["head", "bytes", "features", "setting", "accuracy", "macro F1"]
    rows = [
        [
            HEADS[row.head].title,
            f"{row.num_bytes:,}",
            f"{row.num_features:,}",
            ", ".join(f"{name} {value:g}" for name, value in row.setting.items()),
            f"{row.accuracy:.1%}",
            f"{row.macro_f1:.3f}",
        ]
        for row in result.rows
    ]
    table(headings, rows)
    summary: dict[str, object] = {
        "features": result.features,
        "samples": f"{result.num_train:,} to train on, {result.num_test:,} tested ({result.test})",
        "classes": f"{result.num_classes}; the most frequent one has {result.majority:.1%} of the tested samples",
    }
    pictures = [*([] if plot is None else [plot]), *([] if out is None else [out / CURVE_NAME])]
    for path in pictures:
        plot_probe(result, path)
    if pictures:
        summary["curve"] = str(pictures[0])
    report(summary, json_path, result.to_json())
    if out is not None:
        from walloc_cdl.cli.console import write_json

        write_json(out / REPORT_NAME, result.to_json())


def _parse_bytes(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        budgets = [int(part.replace("_", "")) for part in text.split(",")]
    except ValueError as error:
        raise CallError(f"--bytes {text!r}; expected whole numbers separated by commas, such as 3072,12288") from error
    if min(budgets) < 1:
        raise CallError(f"--bytes {text!r}; expected numbers above 0")
    return budgets


def _require_probe_folder(out: Path) -> None:
    """Make the folder; raise `CallError` if it holds other files."""
    if out.exists() and not out.is_dir():
        raise CallError(f"{out} is a file; name a folder for the probe")
    if foreign := foreign_names(out, {CACHE_NAME, REPORT_NAME, CURVE_NAME}):
        raise CallError(f"{out} holds other files ({foreign[0]}); name an empty or a new folder")
    make_folder(out)
