"""Tiles give the same result as the whole signal if no stage is global."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from walloc_cdl.codec import (
    ResidualCodec2D,
    ResidualConfig2D,
    ResizeCodec,
    ResizeCodec1D,
    ResizeConfig,
    ResizeConfig1D,
    WallocCodec1D,
    WallocCodec2D,
    WallocConfig1D,
    WallocConfig2D,
    to_bytes,
    to_pcm,
)
from walloc_cdl.codec.tiles import decode_tiled, encode_tiled
from walloc_cdl.errors import CallError


def with_random_weights(codec):
    """Return the codec with a seeded encoder whose codes of noise span their range, and a matching decoder."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in codec.modules():
            if isinstance(module, (torch.nn.Conv1d, torch.nn.Conv2d)) and module.kernel_size in ((1,), (1, 1)):
                noise = torch.randn(module.weight.shape, generator=generator)
                is_encoder = module.out_channels < module.in_channels
                scale = 250 / module.in_channels**0.5 if is_encoder else 0.01
                module.weight.copy_(scale * noise)
    return codec


CODECS = {
    "linear": lambda: WallocCodec2D(WallocConfig2D(3, 3, 12)),
    "gray, two levels": lambda: WallocCodec2D(WallocConfig2D(1, 2, 3)),
    "stages": lambda: ResidualCodec2D(ResidualConfig2D(3, 2, 4, stages=2)),
    "resize": lambda: ResizeCodec(ResizeConfig(channels=3, factor=4)),
    "no resize": lambda: ResizeCodec(ResizeConfig(channels=1, factor=1)),
    "mono": lambda: WallocCodec1D(WallocConfig1D(1, 5, 8)),
    "stereo with frames of padding and a post filter": lambda: WallocCodec1D(
        WallocConfig1D(2, 3, 6, padding=1, post_filter=True)
    ),
    "networks": lambda: WallocCodec1D(
        WallocConfig1D(2, 2, 3, encoder="full", encoder_width=6, decoder="network", decoder_width=6, padding=1)
    ),
    "resampling": lambda: ResizeCodec1D(ResizeConfig1D(channels=2, factor=4)),
}


@pytest.fixture(scope="module")
def codecs():
    torch.manual_seed(0)
    return {name: with_random_weights(make()) for name, make in CODECS.items()}


def random_signal(codec, positions, seed):
    rng = np.random.default_rng(seed)
    shape = (codec.source_channels, *(codec.stride * count for count in positions))
    if codec.kind == "image":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.integers(-(2**15), 2**15, shape, dtype=np.int16)


def assert_nearly_equal(found, expected):
    """Assert equality except for values that differ by one because of float rounding."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    difference = (found.long() - expected.long()).abs()
    assert difference.max() <= 1
    share = 0.02 if found.dtype == torch.int16 else 1e-3  # a step of int16 is as small as 100 float roundings
    assert (difference > 0).sum() <= 3 + share * difference.numel()


@pytest.mark.parametrize("name", CODECS)
@settings(max_examples=12, deadline=None)
@given(rows=st.integers(1, 26), columns=st.integers(1, 26), tile=st.integers(1, 14), seed=st.integers(0, 3))
def test_tiles_equal_the_whole(codecs, name, rows, columns, tile, seed):
    codec = codecs[name]
    positions = (rows, columns) if codec.kind == "image" else (rows * columns,)
    signal = random_signal(codec, positions, seed)
    whole = codec.encode(torch.from_numpy(signal)[None])[0]
    tile = tile if codec.kind == "image" else 10 * tile
    assert_nearly_equal(encode_tiled(codec, signal, tile=tile), whole)
    to_stored = to_bytes if codec.kind == "image" else to_pcm
    assert_nearly_equal(decode_tiled(codec, whole, tile=tile), to_stored(codec.decode(whole[None]))[0])


def test_memory_maps_float_signals_and_progress(codecs, tmp_path):
    codec = codecs["linear"]
    signal = random_signal(codec, (20, 30), 0)
    np.save(tmp_path / "image.npy", signal)
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    steps = []
    codes = encode_tiled(codec, mapped, tile=8, on_tile=lambda done, total: steps.append((done, total)))
    assert steps == [(number, 12) for number in range(1, 13)]
    assert_nearly_equal(encode_tiled(codec, (signal / 255 - 0.5).astype(np.float32)), codes)
    assert codes.unique().numel() > 150, "the codes do not span their range, so equality shows little"


@pytest.mark.parametrize("name", ["linear", "mono"])
def test_wrong_signals_codes_and_tiles_are_refused(codecs, name):
    codec = codecs[name]
    shape = (2, 12, 12) if codec.kind == "image" else (1, 100)
    with pytest.raises(CallError, match=r"channels|multiple of the stride"):
        encode_tiled(codec, np.zeros(shape, np.uint8))
    with pytest.raises(CallError, match=r"decodes \(batch"):
        decode_tiled(codec, torch.zeros(1, *shape[1:], dtype=torch.uint8))
    with pytest.raises(CallError, match="tiles of -3 latents a side; expected at least 1"):
        encode_tiled(codec, random_signal(codec, (4, 4) if codec.kind == "image" else (4,), 0), tile=-3)


@pytest.fixture(scope="module")
def global_codec():
    torch.manual_seed(0)
    config = WallocConfig2D(1, 1, 2, encoder="full", encoder_width=32, decoder="network", decoder_width=32)
    return WallocCodec2D(config)


def test_global_networks_require_approximate_tiles_to_be_allowed(global_codec):
    with pytest.raises(
        CallError, match="needs the whole image to encode it, so tiles only approximate the result; encode the wh"
    ):
        encode_tiled(global_codec, np.zeros((1, 8, 8), np.uint8))
    with pytest.raises(CallError, match="allow approximate tiles"):
        decode_tiled(global_codec, torch.zeros(2, 4, 4, dtype=torch.uint8) + 128)


def test_approximate_tiles_are_close_to_the_whole(global_codec):
    signal = random_signal(global_codec, (50, 60), 1)
    whole = global_codec.encode(torch.from_numpy(signal)[None])[0]
    tiled = encode_tiled(global_codec, signal, tile=25, approximate=True)
    assert tiled.shape == whole.shape
    assert (tiled.float() - whole.float()).abs().mean() < 2
    one_tile = encode_tiled(global_codec, signal, tile=64, approximate=True)
    assert_nearly_equal(one_tile, whole)
    decoded = decode_tiled(global_codec, whole, tile=25, approximate=True)
    assert decoded.shape == signal.shape
    error = decoded.float() - to_bytes(global_codec.decode(whole[None]))[0].float()
    assert error.abs().mean() < 4
