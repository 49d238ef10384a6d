"""Base class of the codecs that only resample images or audio, whose codes are samples and which have no weights."""

from __future__ import annotations

import json

import torch
from safetensors.torch import save
from torch import Tensor

from walloc_cdl.codec.base import Codec
from walloc_cdl.codec.config import CodecConfig


class ResamplingCodec(Codec):
    """A codec whose latents are the resampled signal, in units of 1/255 from 0 to 255, with companding `none`."""

    config: CodecConfig

    @torch.no_grad()
    def encode(self, signal: Tensor) -> Tensor:
        """Return stored samples uint8, (B, C, h, w) or (B, C, t); see `Codec.encode`."""
        self._check_signal(signal)
        self.check_range(signal)
        return self.latents(signal).round().to(torch.uint8)

    def files(self) -> dict[str, bytes]:
        """Return the files of the codec; see `Codec.files`."""
        config = json.dumps(self.config.to_json(), indent=1, sort_keys=True) + "\n"
        return {"config.json": config.encode(), "model.safetensors": save({})}
