"""Every codec of PyPI `walloc`, with random weights whose codes span their range, gives the same numbers here."""

import pytest
import torch

from tests.support.walloc_reference import make_reference, relative, signal_for
from walloc_cdl.codec import WallocCodec1D, WallocCodec2D, WallocConfig1D, WallocConfig2D
from walloc_cdl.codec.weights import build_with_weights

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


def image(channels, levels, latents, encoder_width=None, decoder_width=None, bits=8):
    """Return a function that builds the reference image codec, and class and configuration of codec."""

    def build(walloc):
        if decoder_width is None:
            return walloc.LinearCodec2D(channels, levels, latents, bits)
        return walloc.Codec2D(channels, levels, encoder_width or 32, decoder_width, latents, bits, not encoder_width)

    encoder = {"encoder": "full", "encoder_width": encoder_width} if encoder_width else {}
    decoder = {"decoder": "network", "decoder_width": decoder_width} if decoder_width else {}
    return build, WallocCodec2D, WallocConfig2D(channels, levels, latents, bits, **encoder, **decoder)


def audio(channels, levels, latents, encoder_width=None, decoder_width=32, bits=8, post_filter=False):
    """Return the same as `image` for audio."""

    def build(walloc):
        width = encoder_width or latents
        return walloc.Codec1D(
            channels, levels, width, decoder_width, latents, bits, not encoder_width, post_filter=post_filter
        )

    encoder = {"encoder": "full", "encoder_width": encoder_width} if encoder_width else {}
    config = WallocConfig1D(
        channels,
        levels,
        latents,
        bits,
        **encoder,
        decoder="network",
        decoder_width=decoder_width,
        padding=1,
        post_filter=post_filter,
    )
    return build, WallocCodec1D, config


CASES = {
    "rgb, light, network": image(3, 3, 12, decoder_width=32),
    "rgb, full, network": image(3, 3, 12, encoder_width=32, decoder_width=64),
    "gray, full, network, 2 levels": image(1, 2, 3, encoder_width=64, decoder_width=32),
    "8 channels, light, linear": image(8, 3, 32),
    "8 channels, full, network, 6 bits": image(8, 2, 16, encoder_width=32, decoder_width=32, bits=6),
    "rgb, light, linear, 4 levels": image(3, 4, 40),
    "mono, light": audio(1, 4, 8, post_filter=True),
    "stereo, light, 8 levels": audio(2, 8, 54, decoder_width=54),
    "stereo, full": audio(2, 4, 8, encoder_width=20, decoder_width=27, post_filter=True),
    "mono, full, 6 levels, 5 bits": audio(1, 6, 16, encoder_width=16, decoder_width=32, bits=5),
    "6 channels, full, 3 levels": audio(6, 3, 12, encoder_width=24, post_filter=True),
}


SAMPLE_CASES = ("gray, full, network, 2 levels", "stereo, full")


def make_pair(case, dtype):
    build, cls, config = case
    reference = make_reference(build, dtype)
    codec = cls(config).to(dtype)
    outcome = codec.load_state_dict(reference.state_dict())
    assert outcome.missing_keys == outcome.unexpected_keys == []
    return reference, codec


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_every_step_equals_the_reference(name, dtype):
    reference, codec = make_pair(CASES[name], dtype)
    signal, tolerance, limit = signal_for(reference, dtype), TOLERANCE[dtype], 2 ** (reference.latent_bits - 1) - 1
    coefficients = reference.wavelet_analysis(signal, reference.J)
    assert relative(codec.wavelet_analysis(signal), coefficients) < tolerance
    before = codec.encoder[0](codec.wavelet_analysis(signal))
    assert relative(before, reference.encoder[0](coefficients)) < tolerance
    expected = reference.encoder[0:2](coefficients)
    assert relative(codec.latents(signal), expected) < tolerance
    codes = reference.encoder(coefficients)
    assert (codes.min(), codes.max()) == (-limit, limit), "the weights must be scaled so that codes span their range"
    stored = codec.encode(signal)
    assert stored.shape[1:] == codec.latent_shape(tuple(signal.shape[1:])) == codes.shape[1:]
    different = (stored.to(dtype) - (limit + 1) - codes).abs()
    assert different.max() <= 1
    # There are too few codes to measure a rate of 1e-4 in float32; the next test uses enough.
    assert different.sum() <= (2 + 1e-4 * codes.numel() if dtype == torch.float32 else 0)
    decoded = reference.wavelet_synthesis(reference.decoder(codes), reference.J)
    if hasattr(reference, "post"):
        decoded = reference.post(decoded)
    expected = reference.clamp(decoded)
    assert relative(codec.decode((codes + limit + 1).to(torch.uint8)), expected) < tolerance
    if torch.equal(
        codec.encoder(codec.wavelet_analysis(signal)), codes
    ):  # otherwise a different code changes the signal
        assert relative(codec(signal), reference(signal)[0]) < tolerance


@pytest.mark.parametrize("name", [name for name in CASES if "full" not in name])
@torch.no_grad()
def test_codes_equal_the_reference_except_for_a_few_in_a_hundred_thousand(name):
    reference, codec = make_pair(CASES[name], torch.float32)
    per_signal = codec.encode(signal_for(reference, batch=1)).numel()
    signal = signal_for(reference, batch=-(-200_000 // per_signal))
    offset = 2 ** (reference.latent_bits - 1)
    difference = (
        codec.encode(signal).float() - offset - reference.encoder(reference.wavelet_analysis(signal, reference.J))
    )
    assert (difference == 0).float().mean() >= 0.9999
    assert difference.abs().max() <= 1


@pytest.mark.parametrize("name", SAMPLE_CASES)
def test_train_mode_adds_the_same_noise_to_forward_and_to_nothing_else(name):
    reference, codec = make_pair(CASES[name], torch.float64)
    signal = signal_for(reference, torch.float64, batch=1)
    expected_codes = codec.encode(signal)
    reference.train(), codec.train()
    torch.manual_seed(3)
    expected = reference(signal)[0]
    torch.manual_seed(3)
    found = codec(signal)
    assert relative(found.detach(), expected.detach()) < TOLERANCE[torch.float64]
    assert torch.equal(codec.encode(signal), expected_codes)
    assert torch.equal(codec.decode(expected_codes), codec.eval().decode(expected_codes))
    expected.square().mean().backward()
    found.square().mean().backward()
    reference_gradients = dict(reference.named_parameters())
    for parameter_name, parameter in codec.named_parameters():
        gradient = reference_gradients[parameter_name].grad
        assert (parameter.grad - gradient).abs().max() <= 1e-7 * gradient.abs().max() + 1e-15, parameter_name


@pytest.mark.parametrize("name", SAMPLE_CASES)
def test_files_preserve_a_codec_with_networks(name):
    build, cls, config = CASES[name]
    reference = make_reference(build)
    codec = build_with_weights(cls, config, reference.state_dict(), "reference")
    again = cls.from_files(codec.files(), origin="memory")
    assert again.config == config
    assert again.files() == codec.files()
    assert again.spec == codec.spec
    assert again.decoder_id() == codec.decoder_id()
    signal = signal_for(reference, batch=1)
    assert torch.equal(again.encode(signal), codec.encode(signal))
