"""Specs, orders of bit planes and codecs with them, for tests."""

import torch
from hypothesis import strategies as st

from walloc_cdl.codec.families.walloc import WallocCodec
from walloc_cdl.codec.fit.plane_codec import PlaneFitConfig, fit_plane_codec
from walloc_cdl.spec import MAX_CHANNEL_BITS, LatentSpec, count_planes


@st.composite
def plane_orders(draw, max_channels=5):
    """Orders of planes whose channels are numbered in the order of their first planes."""
    bits = draw(st.lists(st.integers(1, MAX_CHANNEL_BITS), min_size=1, max_size=max_channels))
    shuffled = draw(st.permutations([channel for channel, count in enumerate(bits) for _ in range(count)]))
    number = {channel: place for place, channel in enumerate(dict.fromkeys(shuffled))}
    return tuple(number[channel] for channel in shuffled)


def spec_of(planes, *, kind="image", source_channels=3, stride=8):
    """A spec of these planes."""
    num_channels, bits = count_planes(planes)
    return LatentSpec("0" * 64, kind, source_channels, num_channels, stride, max(bits), "levels", planes=planes)


def smooth_images(channels=3, count=12, side=64, seed=0):
    """Images with more energy in low frequencies, uint8 (C, side, side), as photos have."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, side // 8, side // 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)
    noise = 0.05 * torch.randn(count, channels, side, side, generator=generator)
    return list(((smooth + noise).clamp(0, 1) * 255).round().to(torch.uint8))


def plane_codec(channels=3, *, levels=2, max_rate=3.0, **settings) -> WallocCodec:
    """A codec with bit planes, fitted to `smooth_images`, or to noise for audio."""
    config = PlaneFitConfig(channels=channels, levels=levels, max_rate=max_rate, name="planes", **settings)
    if config.kind == "audio":
        generator = torch.Generator().manual_seed(0)
        signals = [torch.randn(channels, 4096, generator=generator).cumsum(1) / 400 for _ in range(4)]
        signals = [signal.clamp(-0.5, 0.5) for signal in signals]
    else:
        signals = smooth_images(channels)
    return fit_plane_codec(signals, config)[0]
