"""Audio end to end: from clips in folders to segments in shards."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets_prep import PrepareConfig, contact_sheet, holdout, open_source, prepare
from datasets_prep.codec_fit.fit_source import configure_fit, fit_to_source
from datasets_prep.codec_fit.source_signals import native_signals
from datasets_prep.job.plan_job import plan_job
from datasets_prep.upkeep.encode_again import RepairConfig
from datasets_prep.upkeep.repair import repair
from tests.support.sounds import sound, write_sound
from tests.support.trees import contents
from walloc_cdl import files
from walloc_cdl.codec import load_codec, load_codec_folder
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.latents import load_manifest, verify

RATE = 8000
SMALL = PrepareConfig(segment_s=0.05, hop_s=0.025, shard_samples=5, workers=0)
SEGMENT, HOP = 400, 200


@pytest.fixture
def make_sounds(tmp_path):
    """Build `NAME/[SPLIT/]CLASS/N.wav`, every third clip too short for a segment; returns the folder."""

    def build(name="sounds", splits=("",), channels=1, rate=RATE, each=4):
        for number, split in enumerate(splits):
            for place, label in enumerate(("hum", "whistle")):
                for clip in range(each):
                    length = 150 if clip % 3 == 2 else 900 + 50 * clip
                    seed = 100 * number + 10 * place + clip
                    path = tmp_path / name / split / label / f"{clip}.wav"
                    write_sound(path, sound(seed, length, channels), rate)
        return tmp_path / name

    return build


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    """A closed-form codec for mono at 8 kHz: stride 8, two latent channels."""
    folder = tmp_path_factory.mktemp("fit")
    for seed in range(6):
        write_sound(folder / f"{seed}.flac", sound(seed, 4000))
    source = open_source(f"audiofolder:{folder}")
    config = configure_fit(source, channels=None, levels=3, sample_rate=None, components=2, name="tiny")
    fitted, _, num_skipped = fit_to_source(source, config)
    assert num_skipped == 0
    return fitted


def test_the_fitted_codec_takes_the_sources_rate_and_channels(codec):
    spec = codec.spec
    assert (spec.kind, spec.sample_rate, spec.source_channels, spec.stride) == ("audio", RATE, 1, 8)
    assert spec.reduction() == 4


def test_segments_are_encoded_in_order_with_their_clips_label(make_sounds, codec, tmp_path):
    source = open_source(f"audiofolder:{make_sounds()}")
    manifest = prepare(source, codec, tmp_path / "out", SMALL)
    assert manifest.latent_shape == (2, SEGMENT // 8)
    dataset = open_latents(tmp_path / "out")
    keys, expected, labels = [], [], []
    for index in range(source.num_samples("train")):
        clip = native_signals(source, 1, 1).load(("train", index))[0][0]
        for number in range(max(clip.shape[1] - SEGMENT, 0) // HOP + 1):
            segment = np.zeros((1, 1, SEGMENT), np.float32)
            piece = clip[:, number * HOP :][:, :SEGMENT]
            segment[0, :, : piece.shape[1]] = piece
            expected.append(codec.encode(torch.from_numpy(segment))[0])
            keys.append(f"{source.key('train', index)}#{number:05d}")
            labels.append(source.label("train", index))
    codes, found = dataset.gather(np.arange(len(dataset)))
    assert dataset.keys(np.arange(len(dataset))) == keys
    assert found.tolist() == labels
    assert torch.equal(codes, torch.stack(expected))
    assert verify(tmp_path / "out", full=True).problems == []


def test_the_manifest_records_what_determines_the_bytes(make_sounds, codec, tmp_path):
    prepare(open_source(f"audiofolder:{make_sounds()}"), codec, tmp_path / "out", SMALL)
    manifest = load_manifest(tmp_path / "out")
    assert manifest.preprocessing == {
        "kind": "audio",
        "channels": 1,
        "sample_rate": RATE,
        "segment_samples": SEGMENT,
        "hop_samples": HOP,
        "normalization": "none",
        "resampling": "soxr HQ, whole clip",
        "short_clips": "silence at the end",
        "rest": "dropped",
        "shard_samples": 5,
        "duplicates": "kept",
    }
    assert not manifest.files.keys() & {"codec/synthesis.safetensors", "codec/operators.safetensors"}
    stored = load_codec_folder(tmp_path / "out/codec")
    assert stored.spec == codec.spec == manifest.spec
    with pytest.raises(CallError, match="holds audio, which cannot be drawn"):
        contact_sheet(tmp_path / "out")


def test_bytes_depend_neither_on_workers_nor_on_the_batch(make_sounds, codec, tmp_path):
    source = open_source(f"audiofolder:{make_sounds()}")
    results = []
    for workers, batch in ((0, 32), (2, 32), (0, 3)):
        config = PrepareConfig(segment_s=0.05, hop_s=0.025, workers=workers, batch=batch)
        prepare(source, codec, tmp_path / f"{workers}-{batch}", config)
        results.append(contents(tmp_path / f"{workers}-{batch}"))
    assert results[0] == results[1] == results[2]


def test_interrupted_at_any_write(make_sounds, codec, tmp_path, monkeypatch):
    """Each write fails once: the plan, the shards and their records, three files, the provenance, and the manifest."""
    source = open_source(f"audiofolder:{make_sounds(each=2)}")
    manifest = prepare(source, codec, tmp_path / "undisturbed", SMALL)
    undisturbed, rename = contents(tmp_path / "undisturbed"), os.replace
    for failing in range(1 + 2 * len(manifest.shards) + 3 + 2):
        renamed = []

        def failing_rename(before, after, renamed=renamed, failing=failing, **options):
            if len(renamed) == failing:
                raise KeyboardInterrupt
            renamed.append(after)
            rename(before, after, **options)

        with monkeypatch.context() as patch:
            patch.setattr(files.os, "replace", failing_rename)
            with pytest.raises(KeyboardInterrupt):
                prepare(source, codec, tmp_path / f"{failing}", SMALL)
        assert not (tmp_path / f"{failing}/manifest.json").exists()
        prepare(source, codec, tmp_path / f"{failing}", SMALL)
        assert contents(tmp_path / f"{failing}") == undisturbed


def test_another_plan_is_refused(make_sounds, codec, tmp_path):
    source = open_source(f"audiofolder:{make_sounds()}")
    prepare(source, codec, tmp_path / "out", SMALL)
    for changed, field in (
        ({"segment_s": 0.1}, "preprocessing.segment_samples 400, but this call has 800"),
        ({"hop_s": 0.05}, "preprocessing.hop_samples 200, but this call has 400"),
        ({"normalization": "clip"}, "preprocessing.normalization 'none', but this call has 'clip'"),
    ):
        config = PrepareConfig(**{"segment_s": 0.05, "hop_s": 0.025, "shard_samples": 5, "workers": 0, **changed})
        with pytest.raises(CallError) as caught:
            prepare(source, codec, tmp_path / "out", config)
        assert field in str(caught.value) or "source.num_samples" in str(caught.value)


@pytest.mark.parametrize("cut_first", [False, True])
def test_a_holdout_never_parts_a_clip(make_sounds, codec, tmp_path, cut_first):
    from datasets_prep.job.choose_preparation import choose_preparation
    from datasets_prep.sources.signals.audiofolder import SegmentedSource

    source = open_source(f"audiofolder:{make_sounds(each=6)}")
    preparation = choose_preparation(source, codec, SMALL)
    if cut_first:
        parted = holdout(SegmentedSource(source, preparation), 0.34)
    else:
        parted = SegmentedSource(holdout(source, 0.34), preparation)
    clips = {
        split: {parted.key(split, index).partition("#")[0] for index in range(parted.num_samples(split))}
        for split in ("train", "test")
    }
    assert len(clips["test"]) == 4
    assert len(clips["train"] | clips["test"]) == 12
    assert not clips["train"] & clips["test"]


def test_native_splits_and_limit(make_sounds, codec, tmp_path):
    source = open_source(f"audiofolder:{make_sounds(splits=('train', 'test'))}")
    manifest = prepare(source, codec, tmp_path / "out", PrepareConfig(segment_s=0.05, workers=0, limit=3))
    for split, summary in manifest.splits.items():
        dataset = open_latents(tmp_path / "out", split)
        keys = dataset.keys(range(len(dataset)))
        clips = {key.partition("#")[0] for key in keys}
        assert 2 <= len(keys) <= 3
        assert len(keys) == sum(1 if clip.endswith("2.wav") else 2 for clip in clips)  # whole clips
        assert summary.class_counts == [sum(f"/{name}/" in key for key in keys) for name in ("hum", "whistle")]
        assert min(summary.class_counts) >= 1


def test_rests_of_clips_are_reported_and_can_be_kept(codec, tmp_path):
    for number, seconds in enumerate((4, 4, 5, 0.5)):
        write_sound(tmp_path / "sounds" / f"{number}.wav", sound(number, int(seconds * RATE)), RATE)
    source = open_source(f"audiofolder:{tmp_path / 'sounds'}")
    config = PrepareConfig(segment_s=2.5, workers=0)
    dropped, filled = plan_job(source, codec, config).notes[1:]
    assert dropped == (
        "2 of 4 clips are longer than their whole segments of 2.5 s: 3.0 s of 13.5 s, at their ends, are dropped; "
        "--rest pad keeps them in a last segment, filled with silence; --segment SECONDS changes the length"
    )
    assert filled == (
        "1 of 4 clips end before their last segment of 2.5 s, which is filled with silence, 2.0 s in all; --segment "
        "SECONDS changes the length, and --geometry ragged keeps whole clips"
    )
    assert prepare(source, codec, tmp_path / "dropped", config).splits["train"].num_samples == 1 + 1 + 2 + 1
    out, said = tmp_path / "padded", []
    manifest = prepare(source, codec, out, replace(config, rest="pad"), progress=lambda state: said.append(state.note))
    assert manifest.splits["train"].num_samples == 2 + 2 + 2 + 1
    assert manifest.preprocessing["rest"] == "silence at the end"
    assert any(note.startswith("3 of 4 clips end before their last segment of 2.5 s") for note in said)
    (out / "train-00000.safetensors").unlink()
    assert repair(out, RepairConfig(source, workers=0)).encoded == ["train-00000.safetensors"]


def test_rates_and_channels_other_than_the_codecs_are_reported(codec, tmp_path):
    for name, rate, channels in (("a", RATE, 1), ("b", 4000, 1), ("c", 16000, 2), ("d", 4000, 1)):
        write_sound(tmp_path / "sounds" / f"{name}.wav", sound(1, rate, channels), rate)
    source = open_source(f"audiofolder:{tmp_path / 'sounds'}")
    for config in (PrepareConfig(segment_s=1.0), PrepareConfig(geometry="ragged")):
        slow, fast = plan_job(source, codec, config).notes[1:]
        assert slow == (
            "2 of 4 clips have 4,000 Hz and mono, but codec tiny takes 8,000 Hz and mono: they are resampled and 4 "
            "times fewer values are 2 times fewer than in these files; `cdl codec fit SOURCE --sample-rate 4000 "
            "--channels 1 --out DIR` fits a codec to them"
        )
        assert fast.startswith(
            "1 of 4 clips have 16,000 Hz and stereo, but codec tiny takes 8,000 Hz and mono: they are resampled and "
            "mixed down, frequencies above 4,000 Hz are lost, and 4 times fewer values are 16 times fewer than "
        )
    resizing = load_codec("resize-mono-4x")
    (tmp_path / "sounds" / "c.wav").unlink()
    (tmp_path / "sounds" / "a.wav").unlink()
    source = open_source(f"audiofolder:{tmp_path / 'sounds'}")
    assert len(plan_job(source, resizing, PrepareConfig(segment_s=1.0)).notes) == 1  # its rate is that of the clips
    (note,) = plan_job(source, load_codec("resize-stereo-4x"), PrepareConfig(segment_s=1.0)).notes[1:]
    assert "they are turned into stereo and 4 times fewer values are 2 times fewer than in these files" in note


def test_other_rates_are_resampled_and_stereo_is_mixed_down(make_sounds, codec, tmp_path):
    source = open_source(f"audiofolder:{make_sounds(rate=12000, channels=2)}")
    manifest = prepare(source, codec, tmp_path / "out", SMALL)
    assert manifest.preprocessing["sample_rate"] == RATE
    assert verify(tmp_path / "out", full=True).problems == []


def test_unusable_clips_go_to_the_ledger(make_sounds, codec, tmp_path):
    root = make_sounds()
    (root / "hum/0.wav").write_bytes(b"")
    (root / "hum/1.wav").write_bytes(b"no sound")
    (root / "hum/notes.txt").write_text("-")
    manifest = prepare(open_source(f"audiofolder:{root}"), codec, tmp_path / "out", SMALL)
    assert manifest.ledger["reasons"]["empty file"] == 1
    assert manifest.ledger["reasons"]["not a sound file name"] == 1
    assert manifest.ledger["num_quarantined"] == 3
    assert verify(tmp_path / "out", full=True).problems == []
    for path in root.rglob("*.wav"):
        path.write_bytes(b"")
    with pytest.raises(JobError, match="none of the 8 segments of split 'train' is usable"):
        prepare(open_source(f"audiofolder:{root}"), codec, tmp_path / "none", SMALL)


@pytest.mark.parametrize(
    ("num_frames", "reason"),
    [(0, "its header does not say how long it is"), (2**36 - 1, "68,719,476,735 samples, more than 268,435,456")],
)
def test_clips_with_implausible_lengths_have_no_segments(make_sounds, codec, tmp_path, num_frames, reason):
    """Encoders of streams write a length of 0, which libsndfile reports as 2^63 - 1."""
    root = make_sounds()
    path = write_sound(root / "hum/long.flac", sound(0, 900))
    data = bytearray(path.read_bytes())
    rates = int.from_bytes(data[18:26], "big") >> 36  # of STREAMINFO: rate, channels, bits, and 36 bits of length
    data[18:26] = (rates << 36 | num_frames).to_bytes(8, "big")
    path.write_bytes(data)
    manifest = prepare(open_source(f"audiofolder:{root}"), codec, tmp_path / "out", SMALL)
    assert manifest.ledger["num_quarantined"] == 1
    assert reason in next(iter(manifest.ledger["reasons"]))


def test_wrong_calls(make_sounds, codec, tmp_path):
    source = open_source(f"audiofolder:{make_sounds()}")
    images = load_codec("gray-16x")
    cases = [
        (
            images,
            SMALL,
            "source sounds is of kind audio, but codec gray-16x is of kind image; choose one of kind",
        ),
        (codec, PrepareConfig(size=256), "size is 256, but source sounds is of kind audio; only image files"),
    ]
    for wrong, config, message in cases:
        with pytest.raises(CallError) as caught:
            prepare(source, wrong, tmp_path / "out", config)
        assert message in str(caught.value)
    for settings, message in (
        ({"segment_s": 0.0}, "segment_s is 0; expected a duration above 0 s"),
        ({"hop_s": float("nan")}, "hop_s is nan"),
        ({"normalization": "peak"}, "unknown normalization 'peak'"),
    ):
        with pytest.raises(CallError, match=message):
            PrepareConfig(**settings)
    assert not (tmp_path / "out").exists()


def test_clips_with_several_rates_need_an_explicit_rate(make_sounds):
    root = make_sounds()
    write_sound(root / "hum/9.wav", sound(9, 900), 16000)
    source = open_source(f"audiofolder:{root}")
    settings = {"channels": None, "levels": 3}
    message = r"have 8000 Hz \(8 clips\) and 16000 Hz \(1 clips\); choose one rate with --sample-rate"
    with pytest.raises(CallError, match=message):
        configure_fit(source, sample_rate=None, **settings)
    assert configure_fit(source, sample_rate=11025, **settings).sample_rate == 11025
    with pytest.raises(CallError, match=message):  # a codec for no particular rate takes clips as they are
        prepare(source, load_codec("resize-mono-4x"), "out", SMALL)


def test_a_resize_codec_takes_the_same_path(make_sounds, tmp_path):
    source = open_source(f"audiofolder:{make_sounds()}")
    manifest = prepare(source, load_codec("resize-mono-4x"), tmp_path / "out", SMALL)
    assert manifest.latent_shape == (1, SEGMENT // 4)
    assert verify(tmp_path / "out", full=True).problems == []


def test_calibration_and_evaluation_share_no_clip(make_sounds):
    source = open_source(f"audiofolder:{make_sounds()}")
    parts = [native_signals(source, 1, 8, fraction=0.667, rest=rest, seed=1) for rest in (False, True)]
    assert [len(part) for part in parts] == [5, 3]
    assert not set(parts[0]._samples) & set(parts[1]._samples)
    with pytest.raises(CallError, match="the rest after a fraction of 1 of 8 samples is empty"):
        native_signals(source, 1, 8, fraction=1, rest=True)
