"""Properties of the audio codec that need no reference implementation."""

import math

import pytest
import torch

from walloc_cdl.codec import (
    ResidualCodec2D,
    ResidualConfig2D,
    WallocCodec1D,
    WallocConfig1D,
    codec_from_files,
    to_pcm,
    to_unit_range,
)
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.kernels.packets_1d import packet_analysis_1d

CONFIG = WallocConfig1D(channels=2, levels=4, latent_channels=8, name="two", sample_rate=44_100)


def orthogonal_codec(config, gain=60.0):
    """Return a codec that keeps the first bands unchanged, so that its result can be computed by hand."""
    codec = WallocCodec1D(config)
    with torch.no_grad():
        for convolution, scale in ((codec.encoder[0], gain), (codec.decoder[1], 1 / gain)):
            convolution.weight.zero_()
            convolution.bias.zero_()
            for index in range(config.latent_channels):
                convolution.weight[index, index] = scale
    return codec


def tones(length, channels=2):
    time = torch.arange(length) / 44_100
    waves = [0.4 * torch.sin(2 * math.pi * frequency * time) for frequency in (220.0, 330.0, 440.0)][:channels]
    return torch.stack(waves)[None]


@pytest.mark.parametrize("padding", [0, 1])
def test_a_latent_has_the_length_of_the_codec_and_decodes_to_the_signal(padding):
    config = WallocConfig1D(channels=2, levels=4, latent_channels=32, padding=padding)
    codec = orthogonal_codec(config)
    signal = tones(4096)
    codes = codec.encode(signal)
    assert codes.shape[1:] == codec.latent_shape((2, 4096)) == (32, 256 + 2 * padding)
    assert codec.spec.extra_frames == 2 * padding
    decoded = codec.decode(codes)
    assert decoded.shape == signal.shape
    assert (decoded - signal).abs().max() < 0.03
    assert (codec.latents(signal).round() + 128 == codes).all()
    if padding:
        bare = orthogonal_codec(WallocConfig1D(channels=2, levels=4, latent_channels=32))
        assert torch.equal(codes[..., 1:-1], bare.encode(signal))
        assert (codes[..., 0] == 128).all(), "frames of silence, encoded"


def test_pcm_and_float_give_the_same_codes():
    codec = orthogonal_codec(CONFIG)
    pcm = to_pcm(tones(2048))
    assert torch.equal(to_pcm(to_unit_range(pcm)), pcm)
    assert torch.equal(codec.encode(pcm), codec.encode(pcm / 65536))
    assert to_pcm(torch.tensor([-0.7, -0.5, 0.5])).tolist() == [-32768, -32768, 32767]


def test_the_encoder_is_local_and_periodic():
    # Tiled encoding depends on this: 4 latents to each side, wrapped at the ends.
    codec = orthogonal_codec(WallocConfig1D(channels=1, levels=3, latent_channels=8))
    signal = tones(4096, channels=1)
    whole = codec.latents(signal)
    inner = codec.latents(signal[..., 1024:2048])
    torch.testing.assert_close(inner[..., 4:-4], whole[..., 132:252], rtol=0, atol=1e-3)
    torch.testing.assert_close(codec.latents(signal.roll(80, 2)), whole.roll(10, 2), rtol=0, atol=1e-3)


def test_the_codec_id_depends_on_the_encoding_side_alone():
    codec = orthogonal_codec(CONFIG)
    with_filter = WallocCodec1D(WallocConfig1D(2, 4, 8, name="other", post_filter=True, fit={"seed": 1}))
    with_filter.load_state_dict({**with_filter.state_dict(), **codec.state_dict()})
    assert with_filter.spec.codec_id == codec.spec.codec_id
    assert with_filter.decoder_id() != codec.decoder_id()
    padded = orthogonal_codec(WallocConfig1D(2, 4, 8, padding=1))
    assert padded.spec.codec_id != codec.spec.codec_id
    with torch.no_grad():
        codec.encoder[0].bias += 0.1
    assert codec.spec.codec_id != with_filter.spec.codec_id


def test_files_preserve_the_codec():
    codec = orthogonal_codec(CONFIG)
    again = codec_from_files(codec.files(), origin="memory")
    assert (again.config, again.spec, again.files()) == (codec.config, codec.spec, codec.files())
    assert again.spec.sample_rate == 44_100
    assert torch.equal(again.encode(tones(2048)), codec.encode(tones(2048)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": 13}, "13 wavelet levels; expected 1 to 12"),
        ({"levels": True}, "True wavelet levels; expected 1 to 12"),
        ({"channels": 10**9}, "1000000000 source channels; expected 1 to 65,536"),
        ({"latent_channels": 33}, "33 latent channels; 2 source channels and 4 levels give at least 1 and at most 32"),
        ({"bits": 9}, "9 bits a latent value; expected 2 to 8"),
        ({"encoder": "heavy"}, "encoder 'heavy'; expected 'light' or 'full'"),
        ({"encoder": "full"}, "None as encoder_width; expected 1 to 65,536"),
        ({"decoder_width": 64}, "decoder_width 64 without a network of that width"),
        ({"decoder": "network", "decoder_width": 7, "padding": 1}, "decoder_width 7 is below the 8 latent channels"),
        ({"decoder": "network", "decoder_width": 8}, "padding 0 with a network; the Oobleck networks require 1"),
        ({"padding": 2}, "2 frames of padding; expected 0 to 1"),
        ({"post_filter": 1}, "post_filter 1; expected true or false"),
        ({"sample_rate": 0}, "0 Hz as sample_rate"),
        ({"name": "two\nlines"}, r"a codec called 'two\\nlines'; expected 1 to 200 printable characters"),
        ({"fit": {"gain": math.nan}}, "fit cannot be written as JSON"),
    ],
)
def test_wrong_configurations_are_refused(changes, message):
    fields = {"channels": 2, "levels": 4, "latent_channels": 8} | changes
    with pytest.raises(CallError, match=message):
        WallocConfig1D(**fields)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (
            torch.zeros(1, 7, 9, dtype=torch.uint8),
            r"codes of shape \(1, 7, 9\); codec walloc-1d decodes \(batch, 8, t\)",
        ),
        (torch.zeros(1, 8, 9), "codes of type torch.float32; expected stored codes, uint8"),
        (torch.zeros(1, 8, 2, dtype=torch.uint8), "2 frames of latent; codec walloc-1d needs at least 3"),
    ],
)
def test_codes_that_cannot_be_decoded_are_refused(codes, message):
    with pytest.raises(CallError, match=message):
        WallocCodec1D(WallocConfig1D(2, 4, 8, padding=1)).decode(codes)


def test_filters_other_than_the_built_in_ones_are_refused():
    codec = orthogonal_codec(CONFIG)
    codec.wt.h0 *= 1.001
    with pytest.raises(DamagedError, match=r"mine: wt.h0 in model.safetensors is not the filter of bior4.4"):
        codec_from_files(codec.files(), origin="mine")


def test_stages_refine_each_other():
    codec = ResidualCodec2D(ResidualConfig2D(channels=1, levels=2, latent_channels=16, stages=3))
    with torch.no_grad():
        for index, (encoder, decoder) in enumerate(zip(codec.encoders, codec.decoders, strict=True)):
            gain = 60.0 * 20**index
            for convolution, scale in ((encoder, gain), (decoder, 1 / gain)):
                convolution.weight.copy_(scale * torch.eye(16)[:, :, None, None])
                convolution.bias.zero_()
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 64, 96, generator=generator) * 0.6 - 0.3
    codes = codec.encode(image)
    assert codes.shape[1:] == codec.latent_shape((1, 64, 96)) == (48, 16, 24)
    error = (codec.decode(codes) - image).abs().max()
    assert error < 1e-3, "three stages of 8 bits, each twenty times finer"
    assert (codec(image) - image).abs().max() < 1e-3
    first = codec.spec
    with torch.no_grad():
        codec.decoders[2].bias += 0.1
    assert codec.spec == first, "no stage encodes what the last one decodes"
    with torch.no_grad():
        codec.decoders[0].bias += 0.1
    assert codec.spec.codec_id != first.codec_id
    assert codec_from_files(codec.files(), origin="memory").spec == codec.spec


def test_analysis_takes_any_number_of_levels_on_request():
    codec = orthogonal_codec(CONFIG)
    signal = tones(1024)
    assert torch.equal(codec.wavelet_analysis(signal, 2), packet_analysis_1d(signal, 2))
