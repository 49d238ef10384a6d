import numpy as np
import pytest
import torch
from scipy.stats import norm

from tests.support.small_sets import make_spec
from walloc_cdl.data import ModelInput
from walloc_cdl.errors import CallError
from walloc_cdl.latents import ChannelStatistics, channel_statistics, code_histogram


def draw_codes(scales=(40.0, 10.0, 3.0), count=50):
    rng = np.random.default_rng(1)
    scales = np.array(scales)[:, None, None]
    codes = rng.normal(5, 1, (count, len(scales), 4, 6)) * scales
    return np.clip(np.rint(codes), -127, 127).astype(int) + 128


def make_input(codes, alpha, **changes):
    spec = make_spec(codes.shape[1], **changes)
    statistics = channel_statistics(code_histogram(codes.astype(np.uint8), codes.shape[1]), spec)
    return ModelInput(spec, statistics, alpha), statistics


def values_of(codes):
    """Inverse companding, computed by SciPy."""
    probability = np.clip((codes - 128) / (2 * 127.499) + 0.5, 1e-4, 1 - 1e-4)
    return norm.ppf(probability) * 127 / 1.85


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_input_is_the_scaled_inverse_companding(alpha):
    codes = draw_codes()
    module, statistics = make_input(codes, alpha)
    x = module(torch.from_numpy(codes.astype(np.uint8)))
    assert x.dtype == torch.float32
    values = values_of(codes)
    axes = (0, 2, 3)
    unscaled = (values - values.mean(axes, keepdims=True)) / values.std(axes, keepdims=True) ** alpha
    expected = unscaled / np.sqrt(unscaled.var(axes).mean())
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(x.double().numpy().var(axes).mean(), 1, rtol=1e-5)
    np.testing.assert_allclose(x.double().numpy().mean(axes), 0, atol=1e-5)
    assert statistics.std.shape == (3,)


def test_variances_are_one_each_for_alpha_one():
    codes = draw_codes()
    x = make_input(codes, 1.0)[0](torch.from_numpy(codes.astype(np.uint8)))
    np.testing.assert_allclose(x.double().numpy().var((0, 2, 3)), 1, rtol=1e-5)


def test_values_equal_those_of_torchs_normal_distribution():
    """Compares all 255 bytes with torch's inverse of Φ, which is independent of this package and of SciPy."""
    codes = torch.arange(1, 256, dtype=torch.uint8).view(1, 1, 15, 17)
    module, _ = make_input(codes.numpy(), 0.0)
    probability = ((codes.double() - 128) / (2 * 127.499) + 0.5).clamp(1e-4, 1 - 1e-4)
    values = torch.distributions.Normal(0.0, 127 / 1.85).icdf(probability)
    torch.testing.assert_close(module(codes).double() / module.scale + module.mean, values, rtol=1e-5, atol=1e-4)


def test_values_can_be_recovered_channel_by_channel():
    codes = draw_codes()
    module, _ = make_input(codes, 0.5)
    x = module(torch.from_numpy(codes.astype(np.uint8)))
    values = x / module.scale.view(-1, 1, 1) + module.mean.view(-1, 1, 1)
    np.testing.assert_allclose(values.numpy(), values_of(codes), rtol=1e-4, atol=2e-4)


def test_pixels_are_normalized_without_companding():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    x = make_input(pixels, 1.0, companding="none")[0](torch.from_numpy(pixels)).numpy()
    values = pixels / 255.0
    expected = (values - values.mean((0, 2, 3), keepdims=True)) / values.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(x, expected, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_a_dead_channel_stays_finite(alpha):
    codes = draw_codes()
    codes[:, 1] = 128
    module, _ = make_input(codes, alpha)
    x = module(torch.from_numpy(codes.astype(np.uint8)))
    assert torch.isfinite(module.table).all()
    assert not x[:, 1].any()
    np.testing.assert_allclose(x.double().numpy().var((0, 2, 3)).mean(), 1, rtol=1e-5)


def test_bytes_that_cannot_occur_give_no_nan():
    codes = draw_codes()
    module, _ = make_input(codes, 0.5)
    assert torch.isfinite(module.table).all()
    torch.testing.assert_close(module.table[:, 0], module.table[:, 1])


def test_the_state_dict_is_complete():
    codes = draw_codes()
    module, _ = make_input(codes, 0.5)
    other = ModelInput(make_spec(3), ChannelStatistics(np.zeros(3), np.ones(3)), 0.5)
    other.load_state_dict(module.state_dict())
    batch = torch.from_numpy(codes.astype(np.uint8))
    assert torch.equal(other(batch), module(batch))
    assert torch.equal(other.mean, module.mean)
    assert not list(module.parameters())


@pytest.mark.parametrize(
    ("batch", "found"),
    [
        (torch.ones(2, 4, 3, 3, dtype=torch.uint8), r"torch.uint8 \[2, 4, 3, 3\]"),
        (torch.ones(3, 3, 3, dtype=torch.uint8), r"torch.uint8 \[3, 3, 3\]"),
        (torch.ones(2, 3, 3, 3), r"torch.float32 \[2, 3, 3, 3\]"),
    ],
)
def test_foreign_codes_are_refused(batch, found):
    module, _ = make_input(draw_codes(), 0.5)
    with pytest.raises(CallError, match=rf"codes are {found}, expected torch.uint8 \[B, 3, h, w\]; use the data set"):
        module(batch)


def test_foreign_statistics_are_refused():
    with pytest.raises(CallError, match="statistics of 2 channels, expected 3"):
        ModelInput(make_spec(3), ChannelStatistics(np.zeros(2), np.ones(2)), 0.5)
