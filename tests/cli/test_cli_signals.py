"""Audio and arrays of many channels through the command line, end to end."""

import json

import numpy as np
import pytest
import soundfile


@pytest.fixture
def done(cdl):
    """Run `cdl` with a call that must succeed; returns what it printed."""

    def call(*arguments):
        answer = cdl(*arguments)
        assert answer.code == 0, answer.err
        return answer.out

    return call


@pytest.fixture
def sounds(tmp_path):
    """Two classes of four mono clips at 8 kHz, 0.5 s."""
    rng = np.random.default_rng(0)
    for label in ("hum", "whistle"):
        for number in range(4):
            path = tmp_path / "sounds" / label / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            tone = 0.4 * np.sin(np.arange(4000) * (0.03 if label == "hum" else 0.4) + rng.uniform(0, 6))
            soundfile.write(path, tone + 0.01 * rng.standard_normal(4000), 8000)
    return tmp_path / "sounds"


@pytest.fixture
def cubes(tmp_path):
    """A stack of four smooth cubes of 6 channels, uint16 up to 1,000."""
    grid = np.linspace(0, 3, 48)
    waves = [np.sin(grid[:, None] * (1 + band / 3) + grid * number) for number in range(4) for band in range(6)]
    values = 500 + 400 * np.stack(waves).reshape(4, 6, 48, 48)
    np.save(tmp_path / "cubes.npy", (values + np.random.default_rng(0).normal(0, 9, values.shape)).astype(np.uint16))
    return f"npy:{tmp_path / 'cubes.npy'}?range=0,1000"


def test_audio_from_fit_to_verified_data_set(done, sounds, tmp_path):
    source, codec, out = f"audiofolder:{sounds}", tmp_path / "tiny", tmp_path / "out"
    report = tmp_path / "report.json"
    settings = ("--levels", 4, "--reduction", 4, "--fraction", 0.75, "--gain", 32)
    text = done("codec", "fit", source, *settings, "--out", codec)
    assert "1 to 4 at stride 16" in text
    assert "clips" in text
    done("codec", "eval", "--codec", codec, "--audio", sounds, "--except-fraction", 0.75, "--json", report)
    result = json.loads(report.read_text())
    assert result["num_clips"] == 2
    assert result["snr_db"] > 10
    assert 0 < result["bits_per_sample"] < 2
    done("prepare", source, "--codec", codec, "--segment", 0.25, "--holdout", 0.25, "--out", out, "--workers", 0)
    shown = done("inspect", out)
    assert "4x125" in shown
    assert "12 samples: hum 6, whistle 6" in shown
    assert "intact" in done("verify", out, "--full")


def test_arrays_from_fit_to_preview(done, cubes, tmp_path):
    codec, out, report = tmp_path / "tiny", tmp_path / "out", tmp_path / "report.json"
    assert "6 to 6 at stride" in done("codec", "fit", cubes, "--latent-channels", 6, "--out", codec)
    done("codec", "eval", "--codec", codec, "--arrays", cubes, "--json", report)
    result = json.loads(report.read_text())
    assert result["num_arrays"] == 4
    assert result["psnr_db"] > 25
    done("prepare", cubes, "--codec", codec, "--out", out)
    done("preview", out, "--source", cubes, "--out", tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    assert "intact" in done("verify", out, "--full")


def test_eval_needs_exactly_one_kind_of_signal(refused, sounds, cubes):
    text = refused("codec", "eval", "--codec", "mono-16x", "--audio", sounds, "--arrays", cubes)
    assert "2 of --images, --audio and --arrays given; give exactly one of them" in text
    assert "0 of --images" in refused("codec", "eval", "--codec", "mono-16x")
    assert "is of kind audio, but codec rgb-16x is of kind image" in refused(
        "codec", "eval", "--codec", "rgb-16x", "--audio", sounds
    )


def test_reductions_without_an_integer_number_of_channels(refused, cubes, tmp_path):
    text = refused("codec", "fit", cubes, "--levels", 1, "--reduction", 5, "--out", tmp_path / "codec")
    assert "gives 4.8 latent channels" in text
    assert "try a reduction of 4, 6 or 8" in text


def test_sample_rates_are_for_audio(refused, source, tmp_path):
    text = refused("codec", "fit", source, "--sample-rate", 8000, "--out", tmp_path / "codec")
    assert "a sample rate of 8000 Hz for the source photos; only audio has one" in text
