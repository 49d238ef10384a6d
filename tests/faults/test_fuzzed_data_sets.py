"""Thousands of altered data sets: each is read unchanged or refused in one line, without a crash or a long delay."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from tests.support.any_samples import PACKED, write_any_set
from tests.support.mutations import altered_bytes, altered_fields
from tests.support.small_sets import make_spec, write_small_set
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.errors import CdlError
from walloc_cdl.latents import LabelSpec, SampleLayout, verify
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, parse_json_with_digest

pytestmark = pytest.mark.slow

Result = TypeVar("Result")
SPLITS = {"train": [3, 0, 4], "test": [2]}


LAYOUTS = {
    "views": SampleLayout(make_spec(), (2, 2, 3), LabelSpec("multilabel", 3), num_views=2),
    "ragged": SampleLayout(make_spec(), (2, None, None), LabelSpec("regression", 2)),
    "ragged audio": SampleLayout(make_spec(2, "audio"), (2, None), LabelSpec("class", 3)),
    "packed": SampleLayout(PACKED["image"], (2, 2, 3), LabelSpec("class", 3)),
    "packed and ragged": SampleLayout(PACKED["image"], (2, None, None)),
}
"""Beside the plain one: views with several classes a sample; ragged with targets; rows of bit planes."""


def read_everything(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for split in SPLITS:
        dataset = open_latents(folder, split)
        crop = (1,) * (len(dataset.latent_shape) - 1) if dataset.layout.ragged else None
        options = {"crop": crop, "views": "random" if dataset.num_views > 1 else None}
        loader = LatentLoader(dataset, 2, shuffle=False, drop_last=False, prefetch=0, **options)
        found[f"{split} batches"] = np.concatenate([codes.numpy().copy() for codes, _ in loader])
        found[split] = np.concatenate([dataset[row][0].numpy().reshape(-1) for row in range(len(dataset))])
        found[f"{split} labels"] = dataset.labels
        dataset.keys(range(len(dataset)))
        _ = dataset.statistics
    return found


@pytest.fixture(params=["plain", *LAYOUTS])
def folder(request, tmp_path) -> Path:
    if request.param == "plain":
        write_small_set(tmp_path, SPLITS)
    else:
        write_any_set(tmp_path, LAYOUTS[request.param], SPLITS)
    return tmp_path


def attempt(read: Callable[[], Result], what: str) -> Result | None:
    """Return the result of `read`, or None for an error of one line; any other exception fails the test."""
    try:
        return read()
    except CdlError as error:
        refusal = str(error)
    assert refusal, what
    assert "\n" not in refusal, what
    return None


@pytest.mark.parametrize("name", ["manifest.json", "train-00000.safetensors", "test-00000.safetensors"])
def test_altered_files_are_refused_or_read_as_they_were_or_fail_verification(folder, name):
    expected = read_everything(folder)
    original = (folder / name).read_bytes()
    for seed in range(700):
        what = f"{name}, seed {seed}"
        (folder / name).write_bytes(altered_bytes(original, random.Random(seed)))
        found = attempt(lambda: read_everything(folder), what)
        report = attempt(lambda: verify(folder, full=True), what)
        whole = report is not None and not report.problems
        if whole:
            assert found is not None, what
            for part, array in expected.items():
                np.testing.assert_array_equal(found[part], array, err_msg=what)


def test_altered_manifests_with_a_valid_digest_are_refused_or_harmless(folder):
    """A writer of a manifest can also compute its digest, so that every field must be checked."""
    fields = parse_json_with_digest((folder / "manifest.json").read_bytes(), origin="manifest")
    outcomes = []
    for seed in range(3000):
        altered = altered_fields(json.loads(json.dumps(fields)), random.Random(seed))
        if isinstance(altered, dict) and "digest" not in altered:
            (folder / "manifest.json").write_bytes(encode_json_with_digest(altered))
            outcomes.append(attempt(lambda: read_everything(folder), f"seed {seed}"))
            attempt(lambda: verify(folder, full=True), f"seed {seed}")
    assert sum(outcome is None for outcome in outcomes) > 1000
