"""What a classifier sees of stored images: figures, differences, JSON, tables and plot."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from datasets_prep.decode.images import load_pixels
from experiments.fidelity import pooled
from experiments.fidelity.measure import measure_fidelity
from experiments.fidelity.outcome import FidelityOutcome, StoredOutcome, outcome_from_json, pool
from experiments.fidelity.plot import plot_outcome
from experiments.fidelity.report import markdown
from experiments.fidelity.stored_forms import parse_forms
from tests.experiments.fidelity.conftest import prepared
from walloc_cdl.codec import load_codec, to_bytes
from walloc_cdl.errors import CallError, DamagedError, JobError


@pytest.fixture(scope="module")
def measured(classifier, codec, photos):
    done = []
    outcome = measure_fidelity(
        codec,
        classifier,
        prepared(photos),
        budgets=[160, 960],
        against=parse_forms("pixels"),
        on_image=lambda *counts: done.append(counts),
    )
    assert done == [(7, 7)]
    return outcome


def test_figures_equal_an_independent_computation(measured, classifier, codec, photos):
    assert measured.num_skipped == 1
    assert measured.labels == [0, 1, 281, 967, -1, -1]
    images = torch.stack([torch.from_numpy(load_pixels(photos / key, 64, 3)) for key in measured.keys])
    predicted = classifier.logits(images).argmax(1).tolist()
    assert measured.predictions == predicted
    for each, planes in zip(measured.outcomes[:2], (5, 30), strict=True):
        prefix = codec.with_planes(planes)
        restored = to_bytes(prefix.decode(prefix.encode(images)))
        errors = ((images.double() - restored.double()) ** 2).mean((1, 2, 3)).numpy()
        assert (each.stored, each.num_bytes) == ("planes", [planes * 32] * 6)
        np.testing.assert_allclose(each.psnr_db, 10 * np.log10(255**2 / errors))
        assert each.predictions == classifier.logits(restored).argmax(1).tolist()
    summary = measured.to_json()["summary"][0]
    assert summary["psnr_db"] == pytest.approx(np.mean(measured.outcomes[0].psnr_db))
    assert summary["agreement"] == np.mean(np.array(measured.outcomes[0].predictions) == predicted)
    assert [each.stored for each in measured.outcomes] == ["planes", "planes", "pixels", "pixels"]


def outcome(own, other, labels=(0, 1, 2, -1), originals=(0, 1, 0, 3), codec="mine", **changes):
    outcomes = [
        StoredOutcome(codec, 100, [96] * 4, [20.0, 22.0, 24.0, 26.0], list(own)),
        StoredOutcome("jpeg", 100, [90, 95, 100, 120], [19.0, 22.0, None, 25.0], list(other)),
    ]
    fields = {
        "codec": codec,
        "classifier": "net",
        "source": "photos",
        "preparation": {"size": 64},
        "keys": ["a", "b", "c", "d"],
        "labels": list(labels),
        "predictions": list(originals),
        "outcomes": outcomes,
        "num_skipped": 2,
        "settings": {},
    }
    return FidelityOutcome(**{**fields, **changes})


def test_shares_and_differences_by_hand():
    result = outcome(own=(0, 1, 5, 3), other=(0, 5, 2, 3))
    headings, rows = result.table()
    assert headings == ["stored", "bytes", "PSNR dB", "same class", "top-1"]
    assert rows == [
        ["originals", "–", "–", "1", "0.667"],
        ["mine", "96", "23.00", "0.750", "0.667"],
        ["jpeg", "101", "infinite", "0.500", "0.667"],
    ]
    by_figure = {(figure, each.baseline): each for figure, each in result.all_differences()}
    assert by_figure["agreement", "jpeg at 100"].mean == pytest.approx(0.25)
    same = by_figure["top1", "originals"]
    assert (same.condition, same.mean, same.low, same.high) == ("mine at 100", 0, 0, 0)
    assert by_figure["top1", "jpeg at 100"].low == pytest.approx(-1)  # two of three images differ, in both ways
    assert ("psnr_db", "jpeg at 100") not in by_figure  # a file restores an image exactly
    assert result.notes() == [
        "4 images (3 of known class, 2 could not be used), net",
        "jpeg at 100: 1 files of the lowest quality are larger",
    ]


def test_without_labels_there_is_no_top1():
    result = outcome((0, 1, 5, 3), (0, 5, 2, 3), labels=[-1] * 4)
    assert result.table()[0] == ["stored", "bytes", "PSNR dB", "same class"]
    assert result.difference_table()[0] == ["difference [95 %]", "PSNR dB", "same class"]
    assert [row[0] for row in result.difference_table()[1]] == ["mine at 100 − jpeg at 100"]
    assert result.to_json()["top1"] is None
    assert "none of known class" in result.notes()[0]


def test_json_returns_to_the_outcome(measured, tmp_path):
    text = json.dumps(measured.to_json(), allow_nan=False)
    assert outcome_from_json(json.loads(text), "a.json") == measured


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda value: value.update(format="other"),
            "a.json is not the JSON of `cdl codec eval --classifier`; measure",
        ),
        (lambda value: value["images"].pop("keys"), r"a.json: missing or unknown fields \['keys'\]; measure again"),
        (lambda value: value["images"]["labels"].pop(), r"a.json.*lists of other lengths than the 4 keys"),
        (lambda value: value["images"]["outcomes"].clear(), r"a.json.*no image, or no form of storage"),
    ],
)
def test_other_json_is_refused(change, message):
    value = json.loads(json.dumps(outcome((0, 1, 5, 3), (0, 5, 2, 3)).to_json()))
    change(value)
    with pytest.raises((CallError, DamagedError), match=message):
        outcome_from_json(value, "a.json")


def test_pooled_measurements_have_the_images_of_all():
    first = outcome((0, 1, 5, 3), (0, 5, 2, 3), codec="half-0")
    second = outcome((0, 1, 2, 3), (0, 1, 2, 3), codec="half-1")
    both = pool([first, second])
    assert both.codec == "half-0 and half-1"
    assert len(both.keys) == 8
    assert [each.stored for each in both.outcomes] == ["half-0 and half-1", "jpeg"]
    assert both.top1(both.outcomes[0].predictions) == pytest.approx(5 / 6)
    assert both.num_skipped == 4
    with pytest.raises(CallError, match="results of half-0 and half-1 differ in classifier, preparation, forms or num"):
        pool([first, outcome((0, 1, 2, 3), (0, 1, 2, 3), codec="half-1", preparation={"size": 32})])


def test_pooled_files(tmp_path, capsys):
    for number in range(2):
        value = outcome((0, 1, 5, 3), (0, 5, 2, 3), codec=f"half-{number}").to_json()
        (tmp_path / f"{number}.json").write_text(json.dumps(value))
    files = [str(tmp_path / f"{number}.json") for number in range(2)]
    assert pooled.main([*files, "--json", str(tmp_path / "both.json"), "--plot", str(tmp_path / "both.png")]) == 0
    assert "| half-0 and half-1 | 96 | 23.00 | 0.750 | 0.667 |" in capsys.readouterr().out
    assert json.loads((tmp_path / "both.json").read_text())["num_images"] == 8
    assert Image.open(tmp_path / "both.png").size[0] > 500
    (tmp_path / "0.json").write_text("{}")
    assert pooled.main(files) == 2
    assert "0.json is not the JSON of" in capsys.readouterr().err


def test_names_of_others_are_only_text(tmp_path):
    result = outcome((0, 1, 5, 3), (0, 5, 2, 3), codec="a|b$x$")
    assert "a\\|b\\$x\\$" in markdown(result)
    plot_outcome(result, tmp_path / "plot.svg")
    assert "a|b" in (tmp_path / "plot.svg").read_text()


def test_codecs_that_are_no_match_are_refused(classifier, codec, photos, tmp_path):
    with pytest.raises(CallError, match="codec mono-16x is for audio of 1 channels; classifiers see gray and RGB"):
        measure_fidelity(load_codec("mono-16x"), classifier, prepared(photos))
    with pytest.raises(CallError, match="the codec is called 'pixels', as is a form to compare it with"):
        renamed = load_codec("resize-rgb-16x")
        renamed.name = "pixels"
        measure_fidelity(renamed, classifier, prepared(photos), against=parse_forms("pixels"))
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(JobError, match="none of the 1 images of .* can be used; check the source"):
        measure_fidelity(codec, classifier, prepared(tmp_path), budgets=[160])
