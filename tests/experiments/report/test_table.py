"""Tables of a comparison, from its results alone."""

import csv
import dataclasses
import io
import json
import re

from experiments.comparison.results import load_results
from experiments.report.table import csv_text, markdown, table_rows
from experiments.report.write import CURVE_NAME, PAGE_NAME, TABLE_NAME, write_report


def row_of(results, name):
    headings, rows = table_rows(results)
    return dict(zip(headings, next(row for row in rows if row[0] == name), strict=True))


def test_a_row_for_each_condition_in_the_order_of_bytes(results):
    headings, rows = table_rows(results)
    assert [row[0] for row in rows][:2] == ["latents-768", "pixels-16"]
    assert rows[-1][0] == "full"
    assert len(rows) == len(results.conditions)
    assert {len(row) for row in rows} == {len(headings)}
    cells = row_of(results, "latents-3072")
    assert (cells["bytes"], cells["accuracy"], cells["PSNR dB"]) == ("3,072", "0.900", "21.0")
    assert re.fullmatch(r"\+0\.200 \[.0\.\d+, \+0\.\d+\]( \*)?", cells["latents to pixels [95 %]"])
    assert cells["to full images [95 %]"].startswith("0.000 [")
    assert row_of(results, "full")["to full images [95 %]"] == "–"


def test_markdown_begins_with_the_answer(results):
    text = markdown(results)
    assert text.startswith("On photos, latents of 3,072 bytes an image are within 1 point")
    assert "100 training and 40 tested samples (split test), seed 0, seed 1; torch 2.11." in text


def test_csv_has_a_row_for_each_run(results):
    rows = list(csv.DictReader(io.StringIO(csv_text(results))))
    assert len(rows) == 2 * len(results.conditions)
    assert (rows[0]["condition"], rows[0]["run"], rows[0]["accuracy"], rows[0]["lr"]) == (
        "full",
        "seed 0",
        "0.9",
        "0.001",
    )


def test_names_are_only_text(results, tmp_path):
    """A `$` too many ended a finished comparison, a `|` made a column, and a tag would be one in a page."""
    name = "latents-_|$x\n\x1b[31m<b>"
    source = dataclasses.replace(results.source, name="$\\frac{1$<script>")
    fields = json.dumps(dataclasses.replace(results, source=source, model="$", command="<i>").to_json())
    (tmp_path / "results.json").write_text(fields.replace('"latents-768"', json.dumps(name)))
    changed = load_results(tmp_path)
    write_report(changed, tmp_path)
    table = (tmp_path / TABLE_NAME).read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(results.conditions)
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert "\x1b" not in table
    page = (tmp_path / PAGE_NAME).read_text(encoding="utf-8")
    assert not re.search(r"<(script|i)>|<b>fox", page)
    assert "&lt;script&gt;" in page


def test_a_report_does_not_follow_links(results, tmp_path):
    names = (TABLE_NAME, CURVE_NAME, PAGE_NAME)
    (tmp_path / "out").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(b"precious")
        (tmp_path / "out" / name).symlink_to(tmp_path / name)
    write_report(results, tmp_path / "out")
    assert [(tmp_path / name).read_bytes() for name in names] == [b"precious"] * 3
    assert not any((tmp_path / "out" / name).is_symlink() for name in names)
