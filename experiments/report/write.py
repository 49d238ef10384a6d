"""Writes all that people read of a comparison beside its results."""

from __future__ import annotations

from pathlib import Path

from experiments.comparison.results import Results
from experiments.report.charts import curve
from experiments.report.page import render
from experiments.report.table import csv_text, markdown
from walloc_cdl.files import write_atomic

PAGE_NAME, TABLE_NAME, CSV_NAME, CURVE_NAME = "report.html", "table.md", "results.csv", "curve.svg"


def write_report(results: Results, folder: Path) -> None:
    """Write `report.html`, `table.md`, `results.csv` and `curve.svg` to `folder`, from the results alone."""
    write_atomic(folder / TABLE_NAME, markdown(results).encode())
    write_atomic(folder / CSV_NAME, csv_text(results).encode())
    write_atomic(folder / CURVE_NAME, curve(results).replace("<svg ", '<svg style="background: #fff" ', 1).encode())
    write_atomic(folder / PAGE_NAME, render(results).encode())
