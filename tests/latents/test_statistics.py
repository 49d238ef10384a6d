import numpy as np
import pytest
from scipy.stats import norm

from tests.support.small_sets import make_spec
from walloc_cdl.errors import CallError
from walloc_cdl.latents import channel_statistics, code_histogram


def test_histogram_counts_every_byte_of_every_channel():
    codes = np.random.default_rng(0).integers(0, 256, (1100, 3, 2, 5), dtype=np.uint8)
    expected = [[int((codes[:, channel] == byte).sum()) for byte in range(256)] for channel in range(3)]
    np.testing.assert_array_equal(code_histogram(codes, 3), expected)
    np.testing.assert_array_equal(code_histogram(codes[:7], 3) + code_histogram(codes[7:], 3), expected)
    assert code_histogram(codes[:0], 3).tolist() == np.zeros((3, 256)).tolist()


def test_statistics_are_those_of_the_inverse_companded_values():
    codes = np.random.default_rng(0).integers(1, 256, (50, 2, 4, 4), dtype=np.uint8)
    probability = (codes.astype(float) - 128) / (2 * 127.499) + 0.5
    values = norm.ppf(np.clip(probability, 1e-4, 1 - 1e-4)) * 127 / 1.85
    statistics = channel_statistics(code_histogram(codes, 2), make_spec())
    np.testing.assert_allclose(statistics.mean, values.mean((0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(statistics.std, values.std((0, 2, 3)), rtol=1e-9)


def test_pixels_are_taken_as_they_are():
    codes = np.random.default_rng(0).integers(0, 256, (9, 3, 4, 4), dtype=np.uint8)
    spec = make_spec(3, companding="none")
    statistics = channel_statistics(code_histogram(codes, 3), spec)
    np.testing.assert_allclose(statistics.mean, (codes / 255 - 0.5).mean((0, 2, 3)))
    np.testing.assert_allclose(statistics.std, (codes / 255).std((0, 2, 3)))


def test_impossible_histograms_are_refused():
    histogram = np.zeros((2, 256), np.int64)
    with pytest.raises(CallError, match="channel statistics of no samples; the split is empty"):
        channel_statistics(histogram, make_spec())
    histogram[:, 0] = 1
    with pytest.raises(CallError, match="histogram counts bytes outside 1 to 255; run `cdl verify --full`"):
        channel_statistics(histogram, make_spec())
