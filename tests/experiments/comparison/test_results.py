"""`results.json`, whose author is not trusted."""

import json
from operator import setitem

import pytest

from experiments.comparison.results import RESULTS_NAME, load_results, save_results
from walloc_cdl.errors import CallError


def test_saved_results_are_loaded(results, tmp_path):
    save_results(results, tmp_path)
    loaded = load_results(tmp_path)
    assert loaded.answer == results.answer
    assert loaded.to_json() == json.loads(json.dumps(results.to_json()))


def test_folders_without_results_are_refused(tmp_path):
    with pytest.raises(CallError, match=r"has no results\.json; name the --out folder of a finished `cdl compare`"):
        load_results(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": "something else", "format_version": 1}',
        '{"format": "walloc-cdl-comparison", "format_version": 3}',
    ],
)
def test_foreign_results_are_refused(tmp_path, content):
    (tmp_path / RESULTS_NAME).write_text(content)
    with pytest.raises(CallError, match="is not the result of a comparison"):
        load_results(tmp_path)


def run_of(fields):
    return fields["conditions"][1]["runs"][0]


ALTERATIONS = {
    "answer, sentence": lambda fields: fields["answer"].pop("sentence"),
    "metric": lambda fields: setitem(fields, "metric", "loss"),
    "matched_by": lambda fields: setitem(fields, "matched_by", "nothing"),
    "conditions": lambda fields: fields["conditions"].clear(),
    "names that differ": lambda fields: fields["conditions"].append(fields["conditions"][0]),
    "kind": lambda fields: setitem(fields["conditions"][0], "kind", "voxels"),
    "runs": lambda fields: fields["conditions"][0]["runs"].clear(),
    "39, expected 40 classes": lambda fields: run_of(fields)["predicted"].pop(),
    "others, expected class numbers": lambda fields: setitem(run_of(fields)["predicted"], 0, 3),
    "probabilities": lambda fields: setitem(run_of(fields), "probabilities", [2.0] * 40),
    "score": lambda fields: setitem(run_of(fields), "score", 1.5),
    "source, keys": lambda fields: fields["source"]["keys"].pop(),
    "source, labels": lambda fields: setitem(fields["source"]["labels"], 0, -1),
    "two conditions": lambda fields: setitem(fields["differences"][0], "baseline", "pixels-1"),
    "both bounds or none": lambda fields: setitem(fields["differences"][0], "low", None),
    "a place among 40": lambda fields: setitem(fields["samples"][0], "index", 40),
    "data URIs": lambda fields: setitem(fields["samples"][0], "original", "https://example.org/x.png"),
    "names of conditions": lambda fields: setitem(fields["samples"][0]["seen"], "x", "data:image/png;base64,AA"),
    "lists of one length": lambda fields: fields["statistics"][0]["bits"].pop(),
}


@pytest.mark.parametrize("named", ALTERATIONS)
def test_altered_results_are_refused(results, tmp_path, named):
    fields = json.loads(json.dumps(results.to_json()))
    ALTERATIONS[named](fields)
    (tmp_path / RESULTS_NAME).write_text(json.dumps(fields))
    with pytest.raises(CallError, match=r"is not the result of a comparison.*; run `cdl compare` again") as caught:
        load_results(tmp_path)
    assert named.removeprefix("others, ").split(", ")[-1] in str(caught.value)
