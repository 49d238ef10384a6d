"""Classifiers of sound: the spectrogram that they see, training, clips, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from classifiers import Reading, TrainConfig, create_model, evaluate, load_classifier, predict, train
from classifiers.evaluation.predictions import classify
from classifiers.models.config import ClassifierConfig
from classifiers.runs.augmentation import preset
from classifiers.sound.spectrogram import SpectrogramConfig, mel_filters
from datasets_prep import PrepareConfig, open_source, prepare
from tests.support.sounds import write_sound
from walloc_cdl.augment.config import PRESETS, SOUND_PRESETS
from walloc_cdl.codec import load_codec
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError, DamagedError

RATE = 44_100
SEGMENT_S = 0.1
CLIPS, SEGMENTS = 12, 3
QUICK = TrainConfig(epochs=12, batch_size=12, lr=3e-3, augment=SOUND_PRESETS["light"], val_interval=0)


def tone(seed: int, frequency: float, num_samples: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    moments = np.arange(num_samples)[:, None] / RATE
    sound = np.sin(2 * np.pi * frequency * rng.uniform(0.9, 1.1) * moments + rng.uniform(0, 6))
    return (6000 * sound + rng.normal(0, 300, sound.shape)).astype(np.int16)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Clips of three segments in two classes, hums of 400 Hz and whistles of 3 kHz, in splits train and test."""
    folder = tmp_path_factory.mktemp("clips")
    length = int(SEGMENTS * SEGMENT_S * RATE) + 64
    for split, offset in (("train", 0), ("test", 100)):
        for label, frequency in (("hum", 400), ("whistle", 3000)):
            for clip in range(CLIPS):
                samples = tone(offset + clip, frequency, length)
                write_sound(folder / split / label / f"{clip:02d}.wav", samples, RATE)
    return folder


@pytest.fixture(scope="module", params=["mono", "mono-16x", "resize-mono-16x"])
def prepared(request, clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents") / "set"
    config = PrepareConfig(segment_s=SEGMENT_S, workers=0, bpp=1.0 if request.param == "mono" else None)
    prepare(open_source(f"audiofolder:{clips}"), load_codec(request.param), folder, config)
    return {split: open_latents(folder, split) for split in ("train", "test")}


@pytest.fixture(scope="module")
def stored(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents") / "mono"
    config = PrepareConfig(segment_s=SEGMENT_S, workers=0, bpp=1.0)
    prepare(open_source(f"audiofolder:{clips}"), load_codec("mono"), folder, config)
    return {split: open_latents(folder, split) for split in ("train", "test")}


def test_the_stem_hears_what_the_codec_decodes(prepared):
    dataset = prepared["train"]
    model = create_model("test_resnet", dataset)
    codes = dataset.gather([0, 17, 60]).codes
    sound = model.stem.waveform(model.input(codes))
    expected = dataset.codec.decode(codes) if dataset.spec.companding != "none" else dataset.codec.values(codes)
    error = (sound - expected).square().mean() / expected.square().mean()
    assert 10 * error.log10() < -70  # dB


def test_rows_of_bit_planes_give_the_spectrograms_of_their_codes(stored):
    dataset = stored["train"].with_planes(24)
    model = create_model("test_resnet", dataset).eval()
    batch = torch.from_numpy(np.empty((2, dataset.layout.view_shape[0]), np.uint8))
    dataset.stored.fill_codes(np.array([3, 5]), batch.numpy())
    torch.testing.assert_close(model(batch), model(dataset.gather([3, 5]).codes))


def test_the_spectrogram_has_its_peak_at_the_tone(stored):
    model = create_model("test_resnet", stored["train"])
    config = model.config.spectrogram
    assert (config.bands, config.columns, config.hop * config.columns <= config.samples) == (64, 32, True)
    rows = [int(np.flatnonzero(stored["train"].labels == label)[0]) for label in (0, 1)]
    grid = model.stem(model.input(stored["train"].gather(rows).codes))
    centers = mel_filters(config).argmax(1) * config.rate / config.transform
    peaks = centers[grid.mean(3)[:, 0].argmax(1).numpy()]
    assert 300 < peaks[0] < 500
    assert 2500 < peaks[1] < 3500
    whole = model.stem(model.input(stored["train"].gather(range(0, 72, 2)).codes))
    assert abs(float(whole.mean())) < 0.2
    assert abs(float(whole.std()) - 1) < 0.2


@pytest.mark.parametrize("rate", [2756.25, 8000.0, 44100.0, 192000.0])
def test_every_mel_band_hears_something(rate):
    config = SpectrogramConfig.choose(rate=rate, block=1, neighbors=1, trim=0, latents=int(2 * rate), bands=128)
    filters = mel_filters(config)
    assert filters.shape == (128, config.transform // 2 + 1)
    assert (filters.max(1) > 0.3).all()
    assert config.columns == 64
    assert config.columns * config.hop <= 2 * rate


def test_a_classifier_of_sound_learns_and_is_rebuilt_without_its_data(stored, tmp_path):
    record = train(
        lambda: create_model("test_resnet", stored["train"], grid=32),
        stored["train"],
        stored["test"],
        QUICK,
        tmp_path / "run",
    )
    assert record.metrics.accuracy > 0.9
    assert record.metrics.num_samples == 2 * CLIPS  # clips, not segments
    model = load_classifier(tmp_path / "run")
    again = evaluate(model, stored["test"])
    assert again.confusion == record.metrics.confusion
    assert again.log_loss == pytest.approx(record.metrics.log_loss, rel=1e-4)


def test_kept_spectrograms_change_no_bit_of_a_resumed_run(stored, tmp_path):
    def run(name, progress=None):
        return train(
            lambda: create_model("test_resnet", stored["train"], grid=16),
            stored["train"],
            None,
            dataclasses.replace(QUICK, epochs=3, batch_size=24),
            tmp_path / name,
            threads=1,
            progress=progress,
        )

    def interrupt(state):
        if state.step == 5:
            raise KeyboardInterrupt

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("broken", interrupt)
    assert run("broken").weights_sha256 == whole.weights_sha256


def test_segments_of_a_clip_are_answered_together(stored):
    torch.manual_seed(0)
    model = create_model("test_resnet", stored["test"]).eval()
    dataset = stored["test"].select(np.random.default_rng(0).permutation(len(stored["test"])))
    single = predict(model, dataset, batch_size=7)
    assert len(single.logits) == 2 * CLIPS * SEGMENTS
    together = predict(model, dataset, batch_size=7, reading=Reading(unit="clip"))
    clips: dict[str, list[int]] = {}
    for row, key in enumerate(dataset.keys(range(len(dataset)))):
        clips.setdefault(key.rpartition("#")[0], []).append(row)
    expected = np.stack([single.logits[rows].mean(0) for rows in clips.values()])
    np.testing.assert_allclose(together.logits, expected, atol=1e-5)
    assert together.labels.tolist() == [int(dataset.labels[rows[0]]) for rows in clips.values()]
    answers = classify(model, dataset)
    assert answers.predicted.tolist() == expected.argmax(1).tolist()
    assert len(classify(model, dataset, reading=Reading(unit="sample")).predicted) == len(dataset)


def test_wrong_calls_say_what_would_work(stored, tmp_path):
    dataset = stored["train"]
    with pytest.raises(CallError, match=r"stem 'channels' takes latents of images.*use stem `synthesis`"):
        create_model("test_resnet", dataset, stem="channels")
    with pytest.raises(CallError, match=r"a grid of 0 mel bands; choose 1 to 1024, such as 64"):
        create_model("test_resnet", dataset, grid=0)
    with pytest.raises(CallError, match=r"crop 40, but all samples of .* have the same size; omit the crop"):
        create_model("test_resnet", dataset, crop=(40,))
    with pytest.raises(CallError, match=r"augment is an augmentation of images; choose one of sound: SOUND_PRESETS"):
        train(
            lambda: create_model("test_resnet", dataset),
            dataset,
            None,
            dataclasses.replace(QUICK, augment=PRESETS["light"]),
            tmp_path / "run",
        )
    with pytest.raises(CallError, match=r"augmentation 'ligth'"):
        preset("ligth", "audio")
    with pytest.raises(CallError, match=r"choice of unit 'clips'.*auto, sample, clip"):
        Reading(unit="clips")
    with pytest.raises(CallError, match=r"mel bands of transforms of .* choose fewer bands"):
        SpectrogramConfig.choose(rate=1e6, block=1, neighbors=1, trim=0, latents=32 * 10**6, bands=1024)
    with pytest.raises(CallError, match=r"sounds of 16 samples are too short for a spectrogram"):
        SpectrogramConfig.choose(rate=8000, block=8, neighbors=9, trim=0, latents=2, bands=64)


def test_a_spectrogram_that_would_fill_memory_is_refused(stored):
    fields = create_model("test_resnet", stored["train"]).config.to_json()
    huge = {**fields["spectrogram"], "bands": 1024, "transform": 2**20}
    with pytest.raises(DamagedError, match="1024 mel bands of transforms of 1,048,576 samples"):
        ClassifierConfig.from_json({**fields, "grid": 1024, "spectrogram": huge}, "config")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spectrogram": None}, "a spectrogram None of latents of kind audio"),
        ({"stem": "channels"}, "stem 'channels' and a grid of 64"),
        ({"grid": 32}, "a grid of 32 for 64 mel bands"),
        ({"latent_shape": [48, 9]}, "latents .48, 9. of kind audio"),
        ({"num_classes": 1}, "2 class names for 1 classes"),
    ],
)
def test_contradictions_in_the_configuration_of_a_run_are_found(stored, change, message):
    fields = create_model("test_resnet", stored["train"]).config.to_json()
    assert ClassifierConfig.from_json(fields, "config").to_json() == fields
    with pytest.raises(DamagedError, match=message):
        ClassifierConfig.from_json(fields | change, "config")
