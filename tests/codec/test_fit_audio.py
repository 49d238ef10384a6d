import numpy as np
import pytest
import torch

from walloc_cdl.codec.fit.closed_form import FitConfig, fit_codec
from walloc_cdl.codec.fit.moments import band_energy_1d
from walloc_cdl.codec.io.folder import codec_from_files
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.kernels.filters import band_energy


def tones(channels, count=6, length=2048, seed=0):
    """Yield clips of low tones and a little noise, float32 (C, T) in [-0.5, 0.5]."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        steps = np.arange(length)
        tone = sum(np.sin(steps * rng.uniform(0.01, 0.3) + rng.uniform(0, 6)) for _ in range(4)) / 10
        parts = tone * rng.uniform(0.5, 1, (channels, 1)) + 0.002 * rng.standard_normal((channels, length))
        yield torch.from_numpy(parts).float()


@pytest.mark.parametrize("levels", [1, 3, 4])
def test_band_energy_equals_that_of_the_matrix(levels):
    np.testing.assert_allclose(band_energy_1d(levels), band_energy(levels), rtol=1e-9)


@pytest.mark.parametrize(("channels", "components"), [(1, 8), (2, 12)])
def test_the_error_on_other_clips_is_the_discarded_energy(channels, components):
    config = FitConfig(
        kind="audio", channels=channels, levels=5, components=components, sample_rate=8000, gain=64.0, name="tones"
    )
    codec, report = fit_codec(tones(channels, count=24), config)
    assert (codec.spec.kind, codec.spec.sample_rate, codec.spec.latent_channels) == ("audio", 8000, components)
    assert report.num_points == 24 * 2048
    clip = next(iter(tones(channels, count=1, seed=9)))[None]
    error = (codec.decode(codec.encode(clip)) - clip).square().mean()
    assert error < 3 * (1 - report.kept_energy) * clip.var() + 2e-5
    again = codec_from_files(codec.files(), origin="memory")
    assert torch.equal(again.encode(clip), codec.encode(clip))
    assert again.config.fit["num_clips"] == 24


def test_more_latents_keep_more_energy():
    kept = [
        fit_codec(tones(1), FitConfig(kind="audio", channels=1, levels=4, components=count, gain=64.0))[1].kept_energy
        for count in (1, 4, 16)
    ]
    assert kept[0] < kept[1] < kept[2]
    assert kept[2] == pytest.approx(1)


def test_int16_and_float_clips_give_the_same_fit():
    clips = [(clip * 65536).round().clamp(-32768, 32767).to(torch.int16) for clip in tones(1)]
    config = FitConfig(kind="audio", channels=1, levels=3, components=2, gain=32.0)
    first, second = (fit_codec(kind, config)[0] for kind in (clips, [clip.float() / 65536 for clip in clips]))
    torch.testing.assert_close(first.encoder[0].weight, second.encoder[0].weight, rtol=1e-4, atol=1e-5)


def test_invalid_fits_are_refused():
    with pytest.raises(CallError, match="a clip of 1 channels; this codec is fitted to 2"):
        fit_codec(tones(1), FitConfig(kind="audio", channels=2, levels=4))
    with pytest.raises(JobError, match="1 usable signals with 2 positions at stride 16 are too few for 16"):
        fit_codec(tones(1, count=1, length=32), FitConfig(kind="audio", channels=1, levels=4))
    with pytest.raises(CallError, match=r"2 channels at 12 levels are 8,192 coefficients.*so take --levels 11"):
        fit_codec(tones(2), FitConfig(kind="audio", channels=2, levels=12))
    with pytest.raises(CallError, match=r"198 channels at 3 levels are 12,672 .* takes 1\.3 GB; .* --levels 2"):
        fit_codec([], FitConfig(channels=198, levels=3))
    with pytest.raises(CallError, match="13 wavelet levels; expected 1 to 12 for audio"):
        FitConfig(kind="audio", levels=13)
    with pytest.raises(CallError, match="20 latent channels; 1 channels and 4 levels give at most 16"):
        fit_codec(tones(1), FitConfig(kind="audio", channels=1, levels=4, components=20))
