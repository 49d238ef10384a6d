"""The codec's implementation in plain torch, to which compiled ones must be equal."""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.peers.peer import Encode, Setting
from walloc_cdl.codec import Codec
from walloc_cdl.spec import code_limit

DOCUMENTED = "walloc_cdl.kernels.packets"


def encode_settings(codec: Codec) -> list[Setting[Encode]]:
    """Returns one setting: latents by matrix products, rounded and shifted to bytes."""

    @torch.inference_mode()
    def encode(signal: Tensor) -> Tensor:
        return codec.latents(signal).round_().add_(code_limit(codec.bits) + 1).to(torch.uint8)

    return [Setting("latents(), rounded", DOCUMENTED, encode)]
