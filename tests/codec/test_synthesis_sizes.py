"""The linear synthesis for many channels and for few samples."""

import numpy as np
import pytest
import torch

from walloc_cdl.codec import ResizeCodec, ResizeConfig, WallocCodec2D
from walloc_cdl.codec.families.walloc_2d import WallocConfig2D
from walloc_cdl.codec.fit import synthesis as module
from walloc_cdl.codec.fit.synthesis import available_block_sizes, fit_synthesis


def codec_of(channels, latents, levels):
    return WallocCodec2D(WallocConfig2D(channels=channels, levels=levels, latent_channels=latents))


@pytest.mark.parametrize(
    ("channels", "latents", "levels", "blocks"),
    [(3, 12, 3, 8), (3, 192, 3, 8), (1, 4, 3, 8), (198, 24, 1, 2), (198, 198, 2, 3), (198, 400, 2, 0)],
)
def test_block_sizes_keep_the_bank_within_its_limit(channels, latents, levels, blocks):
    offered = available_block_sizes(codec_of(channels, latents, levels))
    assert offered == list(range(1, blocks + 1))
    assert sum(4 * channels * block**2 * latents * 25 for block in offered) <= module.MAX_BANK_BYTES


def test_too_many_unknowns_give_no_bank():
    assert fit_synthesis(codec_of(198, 400, 2), [torch.zeros(1, 198, 8, 8)]) == {}


@pytest.mark.parametrize(("side", "width"), [(16, 1), (32, 3), (64, 5)])
def test_few_positions_give_a_small_neighborhood(side, width):
    """For a codec that stores pixels, the layer for its own grid is the identity, however few samples there are."""
    codec = ResizeCodec(ResizeConfig(channels=6, factor=4, name="small"))
    pixels = torch.from_numpy(np.random.default_rng(0).random((1, 6, side, side)) - 0.5).float()
    layer = fit_synthesis(codec, [pixels])[1]
    reach = (5 - width) // 2
    inner = layer.weight[:, :, reach : 5 - reach, reach : 5 - reach]
    assert np.count_nonzero(layer.weight) == np.count_nonzero(inner)
    np.testing.assert_allclose(layer.weight[:, :, 2, 2], np.eye(6), atol=0.05)
