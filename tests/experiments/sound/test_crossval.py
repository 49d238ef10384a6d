"""`cdl crossval`: conditions, folds, a small comparison from beginning to end, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from classifiers import TrainConfig
from experiments.sound.compare import SoundCompareConfig, compare_sounds
from experiments.sound.conditions import parse_sound_condition
from experiments.sound.folds import folds_of_keys
from tests.support.sounds import write_sound
from walloc_cdl.augment.config import SOUND_PRESETS
from walloc_cdl.errors import CallError

RATE = 44_100


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Eight clips of 0.1 s in two classes and two folds."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for label, frequency in (("hum", 300), ("whistle", 2500)):
        for clip in range(4):
            moments = np.arange(4416)[:, None] / RATE
            samples = 6000 * np.sin(2 * np.pi * frequency * moments * rng.uniform(0.9, 1.1)) + rng.normal(
                0, 200, (4416, 1)
            )
            write_sound(folder / label / f"{clip % 2 + 1}-{clip}.wav", samples.astype(np.int16), RATE)
    return folder


def config(clips, **changes):
    training = TrainConfig(epochs=1, batch_size=4, augment=SOUND_PRESETS["light"], val_interval=0)
    settings = {"conditions": ("waves-64x", "latents-64"), "segment_s": 0.1, "num_seeds": 2, "workers": 0, "threads": 1}
    return SoundCompareConfig(f"audiofolder:{clips}", r"/(\d)-", training=training, **(settings | changes))


def test_each_fold_is_tested_by_models_of_the_others(clips, tmp_path):
    outcome = compare_sounds(config(clips), tmp_path / "out")
    assert (outcome.num_samples, outcome.folds) == (8, ["1", "2"])
    waves, latents = outcome.results
    assert (waves.bytes_per_segment, latents.bytes_per_segment) == (68, 63)
    for result in outcome.results:
        assert [(score.fold, score.seed) for score in result.folds] == [("1", 0), ("2", 0), ("1", 1), ("2", 1)]
        for seed, total in enumerate(result.per_seed):
            parts = [score.accuracy for score in result.folds if score.seed == seed]
            assert total == pytest.approx(np.mean(parts))
    (difference,) = outcome.differences
    assert (difference.condition, difference.baseline) == ("latents-64", "waves-64x")
    assert difference.mean == pytest.approx(np.mean(latents.per_seed) - np.mean(waves.per_seed))
    assert json.loads((tmp_path / "out/results.json").read_bytes()) == json.loads(json.dumps(outcome.to_json()))
    assert "| waves-64x | 68 |" in (tmp_path / "out/table.md").read_text()

    (tmp_path / "out/runs/latents-64/fold-2/seed-1/record.json").unlink()
    partial = compare_sounds(config(clips), tmp_path / "out", finished_only=True)
    assert [len(result.per_seed) for result in partial.results] == [2, 1]
    assert len(partial.differences[0].per_seed) == 1
    again = compare_sounds(config(clips), tmp_path / "out")
    assert [result.per_seed for result in again.results] == [result.per_seed for result in outcome.results]


@pytest.mark.parametrize("text", ["waves-16", "latents-16x", "latents-", "latents-0", "pixels-64", "waves-0x", ""])
def test_unknown_conditions_are_refused(text):
    with pytest.raises(CallError, match=r"unknown condition .*such as latents-13780 .* or waves-16x"):
        parse_sound_condition(text, 1)


def test_conditions_name_codecs_of_the_sounds_channels():
    assert parse_sound_condition("waves-16x", 2).codec == "resize-stereo-16x"
    assert parse_sound_condition("latents-100", 1).codec == "mono"
    with pytest.raises(CallError, match="sounds of 6 channels"):
        parse_sound_condition("waves-16x", 6)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"/(\d)-(\d)", "have 2 groups"),
        (r"/\d-", "have 0 groups"),
        (r"/(\d", "no regular expression"),
        (r"(x)", "find nothing in 'a/1-2.ogg'"),
        (r"(a)", "find 1 folds, such as 'a'; expected 2 to 100"),
    ],
)
def test_folds_that_cannot_be_used_are_refused(pattern, message):
    with pytest.raises(CallError, match=message):
        folds_of_keys(["a/1-2.ogg", "a/2-3.ogg"], pattern)


def test_wrong_calls_write_nothing(clips, tmp_path):
    for changes, message in (
        ({"conditions": ("waves-64",)}, "unknown condition 'waves-64'"),
        ({"conditions": ("waves-64x", "waves-64x")}, "each once"),
        ({"folds": "(x)"}, "find nothing in"),
        ({"num_seeds": 0}, "num_seeds is 0"),
        ({"model": "resnet1"}, "resnet1"),
    ):
        with pytest.raises(CallError, match=message):
            compare_sounds(replace(config(clips), **changes), tmp_path / "out")
        assert not (tmp_path / "out").exists()
