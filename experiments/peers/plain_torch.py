"""The codec's implementation in plain torch, to which compiled ones must be equal."""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.peers.peer import Encode, Setting
from walloc_cdl.codec import Codec, WallocCodec
from walloc_cdl.kernels.gpu.unpack import plain_pack
from walloc_cdl.spec import code_limit

DOCUMENTED = "walloc_cdl.kernels.packets"


def encode_settings(codec: Codec) -> list[Setting[Encode]]:
    """Returns one setting: latents by matrix products, rounded and shifted to bytes.

    Codecs with bit planes search the level of each latent, channel by channel, and pack the codes.
    """
    if isinstance(codec, WallocCodec) and codec.planes is not None:
        planes = codec.planes

        @torch.inference_mode()
        def encode_rows(signal: Tensor) -> Tensor:
            return plain_pack(codec._unpadded_codes(signal), planes)

        return [Setting("latents(), quantized and packed", DOCUMENTED, encode_rows)]

    @torch.inference_mode()
    def encode(signal: Tensor) -> Tensor:
        return codec.latents(signal).round_().add_(code_limit(codec.bits) + 1).to(torch.uint8)

    return [Setting("latents(), rounded", DOCUMENTED, encode)]
