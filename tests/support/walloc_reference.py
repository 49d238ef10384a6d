"""The reference, PyPI `walloc`: codecs with random weights whose codes span their range, and signals for them."""

import os
import warnings
from contextlib import contextmanager

import pytest
import torch

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from walloc import walloc
except ImportError as error:
    if os.environ.get("CDL_REQUIRE_REFERENCE"):
        raise
    pytest.skip(f"the reference cannot be imported: {error}", allow_module_level=True)


@contextmanager
def default_dtype(dtype):
    """Context with another default dtype, in which the reference computes the filters of a new codec."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(previous)


def make_reference(build, dtype=torch.float32, seed=0):
    """Return the reference codec `build(walloc)` in eval mode, scaled to realistic ranges for `signal_for`."""
    torch.manual_seed(seed)
    with default_dtype(dtype), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        codec = build(walloc).eval()
        for name, parameter in codec.named_parameters():
            # Neutral initial values would hide a missing norm or activation.
            if name.endswith(("alpha", "beta")) or "norm" in name:
                parameter += 0.2 * torch.randn_like(parameter)
        if hasattr(codec, "encoder"):
            _scale_to_range(codec, signal_for(codec, dtype))
    return codec


def _scale_to_range(codec, signal):
    """Scale the weights so that latents span the codes without exceeding them by much, and few decoded values are
    clamped.

    The last code begins at about 2.7 companding scales. Outliers of a deep encoder are tens of times its standard
    deviation. If latents were scaled by that, the float32 error of outliers, 1e-6 of the largest value, would exceed
    1e-5 of a companded value in the reference as well.
    """
    latents = codec.encoder[0](codec.wavelet_analysis(signal, codec.J))
    companding_scale = (2 ** (codec.latent_bits - 1) - 1) / 1.85
    low, high = latents.amin(), latents.amax()
    _scale_last(codec.encoder[0], 3.0 * companding_scale / torch.minimum(-low, high))
    decoded = codec.decoder(codec.encoder(codec.wavelet_analysis(signal, codec.J)))
    _scale_last(codec.decoder[1], 0.2 / codec.wavelet_synthesis(decoded, codec.J).std())


def _scale_last(network, scale):
    if hasattr(network, "conv_out"):
        last = network.conv_out.weight, network.conv_out.bias
    elif hasattr(network, "conv2"):
        last = network.conv2.weight_g, network.conv2.bias
    else:
        last = network.weight, network.bias
    for parameter in last:
        if parameter is not None:
            parameter *= scale


def signal_for(codec, dtype=torch.float32, batch=2, size=None):
    """Return random images or audio in [-0.5, 0.5], smooth with some noise."""
    audio = "wt.h0" in codec.state_dict()
    sides = size or ((40 * 2**codec.J,) if audio else (10 * 2**codec.J, 12 * 2**codec.J))
    generator = torch.Generator().manual_seed(7)
    noise = torch.rand(batch, codec.channels, *sides, generator=generator, dtype=dtype)
    coarse = torch.rand(batch, codec.channels, *(side // 8 for side in sides), generator=generator, dtype=dtype)
    smooth = torch.nn.functional.interpolate(coarse, size=sides, mode="linear" if audio else "bilinear")
    return (0.3 * noise + 0.7 * smooth) - 0.5


def relative(found, expected):
    """Return the largest difference relative to the largest expected value."""
    return float((found - expected).abs().max() / expected.abs().max())
