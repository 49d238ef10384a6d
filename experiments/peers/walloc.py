"""PyPI `walloc`: its wavelet_analysis and encoder with this codec's weights, used as its documentation shows."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from experiments.peers.peer import Encode, Setting
from walloc_cdl.codec import Codec, WallocCodec
from walloc_cdl.codec.base import to_unit_range
from walloc_cdl.errors import CallError
from walloc_cdl.spec import code_limit

DOCUMENTED = "https://danjacobellis.net/walloc"
UNUSED_WIDTH = 64
"""Width of the networks that a linear encoder does not use."""


def encode_settings(codec: Codec) -> list[Setting[Encode]]:
    """Returns one setting: inference mode, in the default memory layout.

    With the weights of a codec with bit planes it compands and rounds as always: its bytes, one for a latent, are not
    the codes of that codec. Raises `CallError` for a codec without a linear WaLLoC encoder.
    """
    if not isinstance(codec, WallocCodec) or codec.config.encoder != "light":
        raise CallError(f"codec {codec.name} has no linear WaLLoC encoder; choose one that has, such as rgb-16x")
    reference = _load_reference(codec)
    # PyPI walloc pads a frame of silence at each end of audio, which a linear codec of this package does not.
    padding = 1 if codec.kind == "audio" and not codec.extra_frames else 0

    @torch.inference_mode()
    def encode(signal: Tensor) -> Tensor:
        latents = reference.encoder(reference.wavelet_analysis(to_unit_range(signal), reference.J))
        codes = (latents + (code_limit(codec.bits) + 1)).to(torch.uint8)
        return codes[..., padding : codes.shape[-1] - padding] if padding else codes

    return [Setting("encoder(wavelet_analysis(x, J)) in inference mode, lightweight_encode", DOCUMENTED, encode)]


def _load_reference(codec: WallocCodec) -> Any:
    """Returns PyPI walloc's codec with the encoder weights of `codec`, on the same device."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from walloc import walloc

        config = codec.config
        # Not those of the configuration, since a prefix of bit planes may have fewer channels, of a few bits each.
        latents, bits = codec.latent_channels, config.bits if codec.planes is None else 8
        sizes = (config.channels, config.levels, UNUSED_WIDTH, UNUSED_WIDTH, latents, bits)
        if codec.kind == "image":
            reference = walloc.Codec2D(*sizes, lightweight_encode=True)
        else:
            sizes = (config.channels, config.levels, latents, latents, latents, bits)
            reference = walloc.Codec1D(*sizes, lightweight_encode=True, post_filter=False)
    weights = codec.encoder[0].state_dict()
    reference.encoder[0].load_state_dict({name: tensor[:latents] for name, tensor in weights.items()})
    return reference.eval().to(codec.encoder[0].weight.device)
