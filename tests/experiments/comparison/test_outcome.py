import dataclasses
import json
import re

import pytest
from PIL import Image

from experiments.cli.comparison import REDUNDANT_COLUMNS
from experiments.comparison.differences import Difference
from experiments.comparison.outcome import (
    RESULTS_NAME,
    describe,
    load_outcome,
    merge_environments,
    save_outcome,
    summarize,
)
from experiments.report.table import PLOT_NAME, TABLE_NAME, table_rows, write_report
from walloc_cdl.errors import CallError


def test_a_saved_outcome_is_loaded(outcome, tmp_path):
    save_outcome(outcome, tmp_path)
    assert load_outcome(tmp_path) == outcome


def test_folders_without_results_are_refused(tmp_path):
    with pytest.raises(CallError, match=r"has no results\.json; name the --out folder of a finished `cdl compare`"):
        load_outcome(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": "something else", "format_version": 1}',
        '{"format": "walloc-cdl-comparison", "format_version": 2}',
    ],
)
def test_foreign_results_are_refused(tmp_path, content):
    (tmp_path / RESULTS_NAME).write_text(content)
    with pytest.raises(CallError, match="is not the result of a comparison"):
        load_outcome(tmp_path)


@pytest.mark.parametrize("lacking", ["sentence", "conditions", "metrics"])
def test_incomplete_results_are_refused(outcome, tmp_path, lacking):
    fields = outcome.to_json()
    del (fields["conditions"][0]["runs"][0] if lacking == "metrics" else fields)[lacking]
    (tmp_path / RESULTS_NAME).write_text(json.dumps(fields))
    with pytest.raises(CallError, match="is not the result of a comparison"):
        load_outcome(tmp_path)


def test_summary():
    assert summarize([0.5]) == (0.5, 0.0)
    assert summarize([0.4, 0.6]) == (pytest.approx(0.5), pytest.approx(0.02**0.5))


def test_the_sentence_describes_the_result(outcome):
    text = describe("photos", "resnet18", "accuracy", outcome.conditions, outcome.differences)
    assert "On photos with resnet18" in text
    assert "2 seeds" in text
    assert "latents-16x (0.610) against pixels-64 (0.520) is better here: +0.090" in text
    assert "95 % interval +0.010 to +0.170" in text
    assert "latents-16x:channels (0.475) against pixels-64 (0.520) is not shown to differ" in text
    alone = describe("photos", "resnet18", "accuracy", outcome.conditions[:1], [])
    assert "0.520 on pixels-64" in alone


def test_the_sentence_asks_for_more_than_one_seed(outcome, tmp_path):
    single = dataclasses.replace(
        outcome, differences=[Difference("latents-16x", "pixels-64", 0.09, None, None, [0.09])], seeds=[0]
    )
    text = describe("photos", "resnet18", "accuracy", single.conditions, single.differences)
    assert "is not judged: +0.090, and one seed says nothing of the spread; run at least two" in text
    headings, rows = table_rows(single)
    assert dict(zip(headings, rows[1], strict=True))["difference [95 %]"] == "+0.090 [–] to pixels-64"
    save_outcome(single, tmp_path)
    assert load_outcome(tmp_path) == single


def test_different_commits_and_machines_are_listed(outcome, tmp_path):
    records = [
        {"commit": "aaa", "environment": {"torch": "2.11", "cpu": "x"}},
        {"commit": "bbb", "environment": {"torch": "2.11", "cpu": "y"}},
        {"commit": "aaa", "environment": {"torch": "2.11", "cpu": "x"}},
    ]
    merged = merge_environments(records)
    assert merged == {"torch": "2.11", "cpu": ["x", "y"], "commit": ["aaa", "bbb"]}
    write_report(dataclasses.replace(outcome, environment=merged), tmp_path)
    assert "torch 2.11, cpu x and y, commit aaa and bbb." in (tmp_path / TABLE_NAME).read_text(encoding="utf-8")


def test_table(outcome):
    headings, rows = table_rows(outcome)
    cells = dict(zip(headings, rows[1], strict=True))
    assert cells["condition"] == "latents-16x"
    assert (cells["accuracy"], cells["std"]) == ("0.610", "0.014")
    assert cells["difference [95 %]"] == "+0.090 [+0.010, +0.170] to pixels-64"
    assert (cells["values"], cells["bytes"]) == ("12,288", "12,288")
    assert set(REDUNDANT_COLUMNS) < set(headings)


def test_report(outcome, tmp_path):
    write_report(outcome, tmp_path)
    table = (tmp_path / TABLE_NAME).read_text(encoding="utf-8")
    assert "| latents-16x | synthesis | 64 | 0.610 |" in table
    assert "One sentence." in table
    assert "100 training and 40 test samples" in table
    with Image.open(tmp_path / PLOT_NAME) as picture:
        picture.load()
        assert min(picture.size) > 400


def test_names_are_only_text_in_table_and_plot(outcome, tmp_path):
    """A `$` too many ended a finished comparison, and a `|` made a column."""
    name = "_latents|$x\n\x1b[31m<b>"
    conditions = [outcome.conditions[0], dataclasses.replace(outcome.conditions[1], name=f"latents-{name}")]
    differences = [dataclasses.replace(outcome.differences[0], condition=f"latents-{name}", baseline=name)]
    outcome = dataclasses.replace(
        outcome,
        source="$\\frac{1$",
        model="$",
        conditions=conditions,
        differences=differences,
        sentence=f"On {name}: equal.",
        environment={"cpu": name},
    )
    write_report(outcome, tmp_path)
    table = (tmp_path / TABLE_NAME).read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(conditions)
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {10}
    assert r"| latents-\_latents\|\$x \\x1b\[31m\<b\> |" in rows[-1]
    assert r" to \_latents\|\$x" in rows[-1]
    assert "\x1b" not in table


def test_a_report_does_not_follow_links(outcome, tmp_path):
    (tmp_path / "out").mkdir()
    for name in (TABLE_NAME, PLOT_NAME):
        (tmp_path / name).write_bytes(b"precious")
        (tmp_path / "out" / name).symlink_to(tmp_path / name)
    write_report(outcome, tmp_path / "out")
    assert [(tmp_path / name).read_bytes() for name in (TABLE_NAME, PLOT_NAME)] == [b"precious"] * 2
    assert not any((tmp_path / "out" / name).is_symlink() for name in (TABLE_NAME, PLOT_NAME))


def test_conditions_on_different_grids_have_different_markers(outcome, tmp_path):
    """`latents-16x` and `latents-16x@128` have the same color."""
    first, second, *_ = outcome.conditions
    drawn = []
    for name, grid in (("same", first.grid), ("other", 2 * first.grid)):
        (tmp_path / name).mkdir()
        conditions = [first, dataclasses.replace(second, grid=grid)]
        write_report(dataclasses.replace(outcome, conditions=conditions), tmp_path / name)
        drawn.append((tmp_path / name / PLOT_NAME).read_bytes())
    assert drawn[0] != drawn[1]
