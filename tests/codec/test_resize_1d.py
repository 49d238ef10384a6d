"""Resampling as a codec, compared with `scipy.signal.resample_poly`."""

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly

from walloc_cdl.codec import codec_from_files, load_codec
from walloc_cdl.codec.families.resize_1d import ResizeCodec1D, ResizeConfig1D
from walloc_cdl.errors import CallError


def audio(channels, length, scale=0.8):
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(2, channels, length, generator=generator, dtype=torch.float64) - 0.5) * scale


@pytest.mark.parametrize("factor", [2, 3, 4, 8, 21])
@pytest.mark.parametrize("channels", [1, 2])
def test_down_and_up_equal_scipy(factor, channels):
    codec = ResizeCodec1D(ResizeConfig1D(channels=channels, factor=factor))
    signal = audio(channels, 60 * factor)
    expected = resample_poly(signal.numpy(), 1, factor, axis=-1)
    np.testing.assert_allclose(codec.latents(signal).numpy(), (expected + 0.5) * 255, atol=1e-11)
    stored = codec.encode(signal)
    assert stored.shape[1:] == codec.latent_shape((channels, 60 * factor)) == (channels, 60)
    values = stored.double().numpy() / 255 - 0.5
    up = np.clip(resample_poly(values, factor, 1, axis=-1), -0.5, 0.5)
    np.testing.assert_allclose(codec.decode(stored).numpy(), up, atol=1e-5)


def test_frequencies_above_the_lower_rate_are_removed_and_those_below_are_kept():
    codec = load_codec("resize-mono-4x")
    time = torch.arange(8192, dtype=torch.float64)
    for frequency, kept in (
        (0.05, True),
        (0.3, False),
    ):  # relative to the sample rate; the lower rate represents up to 0.125
        tone = 0.4 * torch.sin(2 * torch.pi * frequency * time)[None, None]
        error = (codec.decode(codec.encode(tone)) - tone)[..., 100:-100]
        assert bool(error.abs().max() < 0.006) is kept


def test_names_specify_channels_and_factor_and_files_preserve_the_codec():
    for name, channels, factor in (("resize-mono-4x", 1, 4), ("resize-stereo-4x", 2, 4), ("resize-stereo-3x", 2, 3)):
        codec = load_codec(name)
        spec = codec.spec
        assert (spec.kind, spec.source_channels, spec.stride, spec.companding) == ("audio", channels, factor, "none")
        assert spec.reduction() == factor
        assert codec_from_files(codec.files(), origin="memory").spec == spec


def test_pcm_is_divided_by_65536_and_factor_one_keeps_it_to_a_byte():
    codec = ResizeCodec1D(ResizeConfig1D(factor=1))
    pcm = torch.tensor([[[-32768, -1, 0, 1, 32767]]], dtype=torch.int16)
    assert codec.encode(pcm).tolist() == [[[0, 127, 128, 128, 255]]]
    assert (codec.decode(codec.encode(pcm)) - pcm / 65536).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(codec.encode(pcm.float() / 65536), codec.encode(pcm))


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (torch.zeros(1, 1, 1001), r"length 1001 is not a multiple of the stride 4 .*; nearest that are: 1000, 1004"),
        (torch.zeros(1, 2, 1000), r"2 channels, but codec resize-mono-4x takes 1; convert the signals"),
        (torch.zeros(1, 1000), r"audio of shape \(1, 1000\); expected \(batch, channels, length\)"),
        (torch.zeros(1, 1, 8, dtype=torch.uint8), r"audio of type torch.uint8; expected int16, or float"),
    ],
)
def test_audio_that_cannot_be_encoded_is_refused(signal, message):
    with pytest.raises(CallError, match=message):
        load_codec("resize-mono-4x").encode(signal)


def test_wrong_configurations_are_refused():
    with pytest.raises(CallError, match="0 as the factor to resample by; expected 1 to 4,096"):
        load_codec("resize-mono-0x")
    with pytest.raises(CallError, match="'44100' Hz as sample_rate; expected 1 to 100,000,000"):
        ResizeConfig1D(sample_rate="44100")
