"""Wavelet packets of sequences: comparison with pytorch-wavelets, and inversion at any length."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.packet_reference import reference_analysis_1d, reference_synthesis_1d
from walloc_cdl.codec.packets import AnalysisLevel1D, SynthesisLevel1D
from walloc_cdl.kernels.packets_1d import packet_analysis_1d, packet_synthesis_1d


def noise(*shape, dtype=torch.float64):
    return torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(0)) - 0.5


def relative(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5, 8])
def test_fast_path_equals_the_plain_one(levels):
    pytest.importorskip("pytorch_wavelets")
    signal = noise(2, 3, 10 * 2**levels, dtype=torch.float32)
    expected = reference_analysis_1d(signal, AnalysisLevel1D(), levels)
    assert relative(packet_analysis_1d(signal, levels), expected) < 2e-6
    expected_signal = reference_synthesis_1d(expected, SynthesisLevel1D(), levels)
    assert relative(packet_synthesis_1d(expected, levels), expected_signal) < 2e-6
    assert relative(expected_signal, signal) < 1e-5


@settings(max_examples=60, deadline=None)
@given(levels=st.integers(1, 9), frames=st.integers(1, 40), batch=st.integers(1, 3), channels=st.integers(1, 3))
def test_synthesis_inverts_analysis_at_every_length(levels, frames, batch, channels):
    signal = noise(batch, channels, frames * 2**levels)
    coefficients = packet_analysis_1d(signal, levels)
    assert coefficients.shape == (batch, channels * 2**levels, frames)
    torch.testing.assert_close(packet_synthesis_1d(coefficients, levels), signal, rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(levels=st.integers(1, 8), frames=st.integers(1, 30), shift=st.integers(0, 30))
def test_analysis_is_periodic_so_a_shift_by_the_stride_shifts_the_latent(levels, frames, shift):
    signal = noise(1, 1, frames * 2**levels)
    shifted = packet_analysis_1d(signal.roll(shift * 2**levels, 2), levels)
    torch.testing.assert_close(shifted, packet_analysis_1d(signal, levels).roll(shift, 2), rtol=0, atol=1e-12)


def test_long_signals_and_large_batches_are_processed_in_pieces_without_seams():
    signal = noise(1, 1, 3 * 2**18)
    whole = packet_analysis_1d(signal, 4)
    middle = signal[..., 2**18 - 4096 : 2**18 + 4096]
    torch.testing.assert_close(
        packet_analysis_1d(middle, 4)[..., 64:-64], whole[..., 2**14 - 192 : 2**14 + 192], rtol=0, atol=1e-12
    )
    many = noise(700, 1, 2048)
    alone = torch.cat([packet_analysis_1d(row[None], 8) for row in many[::100]])
    torch.testing.assert_close(packet_analysis_1d(many, 8)[::100], alone, rtol=0, atol=1e-12)


def test_the_gradient_is_the_transpose():
    signal = noise(2, 8, 160)
    for function in (lambda x: packet_analysis_1d(x, 3), lambda x: packet_synthesis_1d(x, 3)):
        # Both are linear, so the directional derivative is the function itself.
        inputs = signal.clone().requires_grad_()
        weights = torch.randn_like(function(inputs))
        (gradient,) = torch.autograd.grad((function(inputs) * weights).sum(), inputs)
        direction = torch.randn_like(signal)
        torch.testing.assert_close((gradient * direction).sum(), (function(direction) * weights).sum())
