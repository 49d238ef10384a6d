"""`LatentTransforms`: random transforms of the model input, every choice from the sample's word."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from walloc_cdl.augment.draws import Draws
from walloc_cdl.data import LatentDataset, ModelInput
from walloc_cdl.errors import CallError
from walloc_cdl.linear.operators import LatentOperators
from walloc_cdl.transforms import operations
from walloc_cdl.transforms.cells import Cells
from walloc_cdl.transforms.config import LatentTransformConfig
from walloc_cdl.transforms.operators import Operators

ERASED_AREA = (0.02, 1 / 3)
"""Smallest and largest share of the latents that are erased, as in `walloc_cdl.augment.erasing`."""


class LatentTransforms(nn.Module):
    """Transforms the model input (B, K, h, w) on its device; the `transforms` of a `LatentClassifier`.

    >>> config = LatentTransformConfig(hflip=0.5, shift=4)
    >>> model = create_model("resnet18", ds, stem="channels", transforms=config)                   # doctest: +SKIP
    >>> logits = model(codes, words)      # codes, labels and words of LatentLoader.with_words     # doctest: +SKIP
    """

    takes_words = True

    def __init__(self, config: LatentTransformConfig, operators: LatentOperators | None, cells: Cells) -> None:
        """Take operators and cells in the units of the model input; see `of_dataset`."""
        super().__init__()
        if config.needs_operators and operators is None:
            raise CallError("flips, brightness, contrast and erasing need the operators of the data set; pass them")
        self.config = config
        self.operators = None if operators is None else Operators(operators)
        for name in ("limits", "low", "high"):
            self.register_buffer(name, getattr(cells, name))

    @classmethod
    def of_dataset(
        cls, config: LatentTransformConfig, dataset: LatentDataset, model_input: ModelInput
    ) -> LatentTransforms:
        """Return the transforms of the model input of latents of this data set.

        Raises `CallError` for audio, for a data set without operators if they are needed, and for crops and shifts
        beyond the latents; `DamagedError` for damaged operators.
        """
        if dataset.spec.kind != "image":
            raise CallError(f"transforms take latents of images; those of {dataset.folder} are of {dataset.spec.kind}")
        height, width = dataset.latent_shape[1:]
        if height and width:
            if config.crop is not None and (config.crop[0] > height or config.crop[1] > width):
                raise CallError(f"a crop of {config.crop} of latents of {height} × {width}; choose at most these")
            if config.shift >= min(height, width):
                raise CallError(f"a shift by {config.shift} of latents of {height} × {width}; choose fewer")
        operators = None
        if config.needs_operators:
            scale, mean = (part.double().cpu().numpy() for part in (model_input.scale, model_input.mean))
            operators = dataset.operators.in_units(scale, mean)
        cells = Cells.of(dataset.spec, dataset.levels).in_units(model_input.scale, model_input.mean)
        return cls(config, operators, cells)

    def extra_repr(self) -> str:
        """Return the settings, by which a run's folder tells transforms apart."""
        return ", ".join(f"{name}={value}" for name, value in self.config.to_json().items())

    def forward(self, x: Tensor, words: Tensor | None = None) -> Tensor:
        """Return transformed latents; `words`, uint64 (B,), are those of `LatentLoader.with_words`.

        Without words nothing can be drawn, and latents are returned as they are.
        """
        if words is None:
            return x
        config, draws, operators = self.config, Draws(words.to(x.device)).named("latents"), self.operators
        if config.noise:
            x = _some(x, draws, "noise", config.noise, self._noisy)
        if operators is not None:
            if config.hflip:
                x = _some(x, draws, "hflip", config.hflip, lambda y, _: operations.horizontal_flip(y, operators))
            if config.vflip:
                x = _some(x, draws, "vflip", config.vflip, lambda y, _: operations.vertical_flip(y, operators))
        if config.shift:
            x = operations.shift(
                x, *(draws.below(name, 2 * config.shift + 1) - config.shift for name in ("down", "right"))
            )
        if config.crop is not None:
            height, width = config.crop
            top = draws.below("top", x.shape[2] - height + 1)
            x = operations.crop(x, top, draws.below("left", x.shape[3] - width + 1), height, width)
        if operators is not None:
            for name, change in (("brightness", operations.brightness), ("contrast", operations.contrast)):
                if amount := getattr(config, name):
                    x = change(x, draws.uniform(name, 1 - amount, 1 + amount), operators)
            if config.erase:
                x = _some(
                    x, draws, "erase", config.erase, lambda y, own: operations.erase(y, _boxes(y, own), operators)
                )
        return x

    def _noisy(self, x: Tensor, draws: Draws) -> Tensor:
        uniform = draws.uniform("noise/values", count=x[0].numel()).reshape(x.shape)
        return operations.quantization_noise(x, uniform, Cells(self.limits, self.low, self.high))


def _some(x: Tensor, draws: Draws, name: str, probability: float, change: Any) -> Tensor:
    """Apply `change`, of latents and their draws, to the samples that it happens to."""
    chosen = draws.happens(name, probability).nonzero()[:, 0]
    if not len(chosen):
        return x
    result = x.clone()
    result[chosen] = change(x[chosen], draws.of(chosen)).to(x.dtype)
    return result


def _boxes(x: Tensor, draws: Draws) -> Tensor:
    """Return a random box of each sample, int64 (B, 4) of top, left, height and width."""
    height, width = x.shape[-2:]
    area = draws.uniform("area", *ERASED_AREA) * (height * width)
    aspect = draws.uniform("aspect", -1.2, 1.2).exp()
    tall = (area * aspect).sqrt().round().clamp(1, height)
    wide = (area / aspect).sqrt().round().clamp(1, width)
    top = (draws.uniform("box/top") * (height - tall + 1)).floor()
    left = (draws.uniform("box/left") * (width - wide + 1)).floor()
    return torch.stack([top, left, tall, wide], 1).long()
