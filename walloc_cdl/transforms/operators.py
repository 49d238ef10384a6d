"""`Operators`: the operators of a data set as tensors, which move with the module that holds them."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from walloc_cdl.linear.operators import LatentOperators


class Operators(nn.Module):
    """The tensors of `LatentOperators`, under the same names, as buffers of float32."""

    hflip_weight: Tensor
    hflip_bias: Tensor
    vflip_weight: Tensor
    vflip_bias: Tensor
    black: Tensor
    white: Tensor
    mean_weight: Tensor
    mean_bias: Tensor

    def __init__(self, operators: LatentOperators) -> None:
        super().__init__()
        for field in dataclasses.fields(operators):
            self.register_buffer(field.name, torch.from_numpy(getattr(operators, field.name).copy()))
