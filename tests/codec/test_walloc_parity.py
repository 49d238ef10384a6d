"""Comparison with the independent implementation, PyPI `walloc`, with random weights whose codes span their range."""

import pytest
import torch

from tests.support.packet_reference import reference_analysis, reference_synthesis
from tests.support.walloc_reference import relative, walloc
from walloc_cdl.codec import WallocCodec2D, WallocConfig2D
from walloc_cdl.kernels.packets import packet_analysis, packet_encode, packet_synthesis

# (source channels, levels, latent channels): gray, RGB, 8 channels; other depths.
CONFIGS = [(1, 3, 4), (3, 3, 12), (8, 3, 32), (3, 2, 12), (3, 4, 40)]


def make_pair(channels, levels, latent_channels):
    """Return the reference codec and codec with the same random weights, scaled so that codes span their range."""
    torch.manual_seed(channels * 100 + levels)
    reference = walloc.Codec2D(channels, levels, 64, 64, latent_channels, 8, lightweight_encode=True).eval()
    with torch.no_grad():
        pixels = random_pixels(channels)
        latents = reference.encoder[0](reference.wavelet_analysis(pixels, levels))
        scale = 130 / latents.flatten(2).std(2).mean()
        reference.encoder[0].weight *= scale
        reference.encoder[0].bias *= scale
    codec = WallocCodec2D(WallocConfig2D(channels, levels, latent_channels))
    shared = {name: value for name, value in reference.state_dict().items() if not name.startswith("decoder")}
    outcome = codec.load_state_dict(shared, strict=False)
    assert outcome.unexpected_keys == []
    assert outcome.missing_keys == ["decoder.1.weight", "decoder.1.bias"]
    return reference, codec


def random_pixels(channels, height=192, width=160, batch=2):
    generator = torch.Generator().manual_seed(7)
    noise = torch.rand(batch, channels, height, width, generator=generator)
    smooth = torch.rand(batch, channels, height // 16, width // 16, generator=generator)
    smooth = torch.nn.functional.interpolate(smooth, size=(height, width), mode="bilinear")
    return (0.3 * noise + 0.7 * smooth) - 0.5


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_analysis_and_synthesis_equal_the_reference(config):
    reference, codec = make_pair(*config)
    levels, pixels = config[1], random_pixels(config[0])
    expected = reference.wavelet_analysis(pixels, levels)
    assert relative(codec.wavelet_analysis(pixels), expected) < 1e-5
    assert relative(reference_analysis(pixels, codec.wt, levels), expected) < 1e-5
    coefficients = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    expected = reference.wavelet_synthesis(coefficients, levels)
    assert relative(codec.wavelet_synthesis(coefficients), expected) < 1e-5
    assert relative(reference_synthesis(coefficients, codec.iwt, levels), expected) < 1e-5


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_latents_and_codes_equal_the_reference(config):
    reference, codec = make_pair(*config)
    channels, levels, latent_channels = config
    # Both compute in float32, so that about 3 codes in 100,000 are rounded differently; measuring this rate takes some
    # hundred thousand codes.
    codes_per_image = latent_channels * (192 >> levels) * (160 >> levels)
    pixels = random_pixels(channels, batch=-(-200_000 // codes_per_image))
    coefficients = reference.wavelet_analysis(pixels, levels)
    assert relative(codec.latents(pixels), reference.encoder[0:2](coefficients)) < 1e-5
    expected = reference.encoder(coefficients)
    codes = codec.encode(pixels).float() - 128
    assert expected.min() == -127, "the weights must be scaled so that codes span their range"
    assert expected.max() == 127
    assert (codes == expected).float().mean() >= 0.9999
    assert (codes - expected).abs().max() <= 1


@pytest.mark.parametrize("bits", [8, 6, 3])
@torch.no_grad()
def test_bottleneck_and_its_inverse_equal_the_reference(bits):
    reference = walloc.Codec2D(1, 2, 64, 64, 4, bits, lightweight_encode=True).eval()
    codec = WallocCodec2D(WallocConfig2D(1, 2, 4, bits))
    latents = torch.linspace(-400, 400, 10_001)
    assert relative(codec.encoder[1](latents), reference.encoder[1](latents)) < 1e-6
    codes = torch.arange(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1)).float()
    assert relative(codec.decoder[0](codes), reference.decoder[0](codes)) < 1e-5
    stored = (codes + 2 ** (bits - 1)).to(torch.uint8)
    assert relative(codec.values(stored), reference.decoder[0](codes)) < 1e-5
    assert (stored.min(), stored.max()) == codec.spec.byte_range


def test_weights_of_the_published_layout_load_without_renaming():
    reference, codec = make_pair(3, 3, 12)
    published = {name for name in reference.state_dict() if not name.startswith("decoder.1")}
    assert published == {name for name in codec.state_dict() if not name.startswith("decoder.1")}
    fresh = WallocCodec2D(WallocConfig2D()).state_dict()
    for name, value in reference.state_dict().items():
        if name.startswith(("wt.", "iwt.")):
            assert torch.equal(value, fresh[name]), f"{name} of a new codec is not the published filter"


@pytest.mark.parametrize("shape", [(40, 48), (8, 8), (16, 24), (72, 520), (64, 64)])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_synthesis_inverts_analysis_at_every_size_even_where_the_reference_does_not(shape, levels):
    pixels = torch.rand(1, 2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5
    coefficients = packet_analysis(pixels, levels)
    assert coefficients.shape == (1, 2 * 4**levels, shape[0] // 2**levels, shape[1] // 2**levels)
    torch.testing.assert_close(packet_synthesis(coefficients, levels), pixels, rtol=0, atol=1e-13)


def test_one_pass_encoding_equals_analysis_then_convolution_for_bytes_and_floats():
    generator = torch.Generator().manual_seed(3)
    stored = torch.randint(0, 256, (33, 3, 128, 128), dtype=torch.uint8, generator=generator)
    weight, bias = torch.randn(12, 192, generator=generator), torch.randn(12, generator=generator)
    pixels = stored.float() / 255 - 0.5
    expected = torch.nn.functional.conv2d(packet_analysis(pixels, 3), weight[:, :, None, None], bias)
    assert relative(packet_encode(pixels, weight, bias, 3), expected) < 1e-5
    assert relative(packet_encode(stored, weight, bias, 3), expected) < 1e-5


def test_codes_do_not_depend_on_the_batch():
    _, codec = make_pair(3, 3, 12)
    pixels = torch.cat([random_pixels(3) for _ in range(3)]).roll(5, dims=3)
    together = codec.encode(pixels)
    alone = torch.cat([codec.encode(image[None]) for image in pixels])
    assert (together != alone).float().mean() < 1e-4


def test_forward_adds_noise_when_training_and_has_gradients():
    _, codec = make_pair(3, 3, 12)
    pixels = random_pixels(3)
    codec.eval()
    # `encode` uses another path, so that a few codes are rounded differently.
    difference = (codec(pixels) - codec.decode(codec.encode(pixels))).abs()
    assert (difference > 1e-4).float().mean() < 1e-3
    codec.train()
    assert not torch.equal(codec(pixels), codec(pixels))
    codec(pixels).square().mean().backward()
    assert codec.encoder[0].weight.grad.abs().max() > 0
