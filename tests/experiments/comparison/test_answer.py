"""How many bytes are enough, with what certainty, and in words."""

import dataclasses

import numpy as np
import pytest

from experiments.comparison.answer import find_answer, replicates, smallest_sufficient
from experiments.comparison.results import RunResult
from tests.support.results import SCORES, make_results

MANY = 900
"""Tested images, of which a few seeds leave little doubt."""


def answer(scores, num_tested=MANY, **options):
    results = make_results(num_tested, 3, scores)
    return find_answer(
        results.conditions, results.source.labels, "accuracy", source="photos", model="resnet18", **options
    )


def sizes(found):
    return {each.kind: each.bytes for each in found.sufficient}


def test_latents_need_fewer_bytes_than_pixels():
    found = answer({"full": 0.9, "pixels-16": 0.5, "latents-768": 0.6, "pixels-32": 0.7, "latents-3072": 0.9,
                    "pixels-64": 0.9, "latents-12288": 0.9})  # fmt: skip
    assert sizes(found) == {"pixels": 12_288, "latents": 3072}
    assert (found.ratio, found.ratio_low, found.ratio_high) == (4.0, 4.0, 4.0)
    assert found.sentence == (
        "On photos, latents of 3,072 bytes an image are within 1 point of the full images (accuracy 0.900 with "
        "resnet18); pixels need 12,288, 4 times as many."
    )
    assert found.notes == []
    assert [each.condition for each in found.sufficient] == ["pixels-64", "latents-3072"]


def test_nothing_is_gained():
    found = answer({"full": 0.9, "pixels-16": 0.5, "latents-768": 0.5, "pixels-32": 0.9, "latents-3072": 0.9})
    assert found.ratio == 1
    assert "and so are pixels of as many bytes: here latents gain nothing over resolution reduction" in found.sentence
    assert "saves 98% of the bytes" in found.sentence


def test_pixels_need_fewer():
    found = answer({"full": 0.9, "pixels-16": 0.9, "latents-768": 0.5, "pixels-32": 0.9, "latents-3072": 0.9})
    assert found.ratio == 0.25
    assert "but pixels need only 768: here resolution reduction is the smaller form" in found.sentence
    assert "The smallest pixels that were measured, 768 bytes, are already enough; fewer may be, too." in found.notes


def test_no_smaller_pixels_are_enough():
    found = answer({"full": 0.9, "pixels-16": 0.5, "latents-768": 0.6, "pixels-32": 0.7, "latents-3072": 0.9})
    assert sizes(found) == {"pixels": 196_608, "latents": 3072}
    assert found.sentence.endswith("which take 196,608; no smaller pixels that were measured are.")
    assert found.ratio == 64


def test_no_latents_are_enough():
    found = answer({"full": 0.9, "pixels-16": 0.5, "latents-768": 0.6, "pixels-32": 0.9})
    assert sizes(found) == {"pixels": 3072, "latents": None}
    assert "no latents that were measured are within 1 point" in found.sentence
    assert "pixels are from 3,072 bytes an image on" in found.sentence
    assert (found.ratio, found.ratio_low) == (None, None)


def test_a_margin_of_another_width():
    scores = {"full": 0.9, "pixels-16": 0.8, "latents-768": 0.8, "pixels-32": 0.85, "latents-3072": 0.86}
    assert sizes(answer(scores, margin=0.06)) == {"pixels": 3072, "latents": 3072}
    assert sizes(answer(scores, margin=0.15)) == {"pixels": 768, "latents": 768}
    assert "within 6 points" in answer(scores, margin=0.06).sentence


def test_a_dip_at_more_bytes_counts():
    losses = np.array([[0.0, 0.0, 0.0], [0.0, 0.02, 0.0], [0.02, 0.02, 0.02]])
    assert smallest_sufficient(np.array([1, 2, 4]), losses, 0.01).tolist() == [1, 4, np.inf]


def test_without_full_images_there_is_no_answer():
    found = answer({"pixels-16": 0.5, "latents-768": 0.6})
    assert (found.reference, found.sufficient, found.ratio) == (None, [], None)
    assert "the best accuracy, 0.600, is that of latents-768; there is no condition `full`" in found.sentence


def test_nothing_is_said_where_full_images_are_not_above_chance():
    found = answer({"full": 0.34, "pixels-16": 0.33, "latents-768": 0.34})
    assert (found.reference, found.sufficient, found.ratio) == ("full", [], None)
    assert (
        "does not tell the classes apart even from the full images (accuracy 0.340, by chance 0.333)" in found.sentence
    )


def test_few_images_and_one_seed_are_said_to_be_few():
    results = make_results(40, 1)
    found = find_answer(results.conditions, results.source.labels, "accuracy", source="photos", model="resnet18")
    assert any("One seed was trained" in note for note in found.notes)
    assert any("Only 40 samples were tested" in note for note in found.notes)
    assert not answer(SCORES, MANY).notes


def run(name, predicted):
    return RunResult(name, 0.5, predicted, None, [], 1.0, {})


def test_folds_of_a_seed_are_joined():
    runs = [run("seed 0, fold 1", [1, -1]), run("seed 0, fold 2", [-1, 2]), run("seed 1, fold 1", [0, -1])]
    assert [each.tolist() for each in replicates(runs, "accuracy")] == [[1, 2], [0, -1]]
    assert [each.tolist() for each in replicates([run("fold 1", [-1, 0]), run("fold 2", [1, -1])], "accuracy")] == [
        [1, 0]
    ]


@pytest.mark.parametrize("truth", [3072, 12_288])
def test_the_interval_contains_the_true_bytes(truth):
    """In 60 simulated comparisons of 400 images, whose smaller conditions are four points below, at least 90 % do."""
    generator, hits = np.random.default_rng(0), 0
    base = make_results(400, 1, {"full": 0.9, "pixels-32": 0.9, "latents-768": 0.9, "latents-3072": 0.9,
                                 "latents-12288": 0.9})  # fmt: skip
    labels = np.array(base.source.labels)
    for _ in range(60):
        conditions = []
        easy = generator.random(400)
        for each in base.conditions:
            is_enough = each.kind != "latents" or each.bytes_per_sample >= truth
            right = easy + 0.1 * generator.standard_normal(400) < (0.9 if is_enough else 0.86)
            predicted = np.where(right, labels, (labels + 1) % 3).tolist()
            own = dataclasses.replace(each.runs[0], name="test split", predicted=predicted, score=float(right.mean()))
            conditions.append(dataclasses.replace(each, runs=[own]))
        found = find_answer(conditions, labels.tolist(), "accuracy", source="a", model="b", margin=0.01)
        latents = next(each for each in found.sufficient if each.kind == "latents")
        hits += (latents.low or np.inf) <= truth <= (latents.high or np.inf)
    assert hits >= 54
