"""`PixelClassifier`: a timm classifier of images as it was published, with its own input size and normalization.

It measures what a codec keeps: a network that was trained on ordinary images sees the decoded ones in their place.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data import ImageNetInfo, infer_imagenet_subset, resolve_data_config
from torch import Tensor, nn
from torch.nn.functional import interpolate

from classifiers.models.backbones import build_for_weights, load_pretrained, resolve_model
from walloc_cdl.errors import CallError, DamagedError, first_line


class PixelClassifier:
    """A frozen timm classifier of RGB images; see `load_pixel_classifier`.

    Images are square, uint8 (N, C, S, S), C 1 or 3. As timm's evaluation does, they are resized to the input size over
    `crop_share`, with the model's filter, and their center is cropped.
    """

    def __init__(self, model: nn.Module, name: str, crop_share: float | None = None) -> None:
        self.name = name
        self._model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        config = resolve_data_config({}, model=model)
        _, height, width = config["input_size"]
        self.input_size = (int(height), int(width))
        self.crop_share = float(config["crop_pct"] if crop_share is None else crop_share)
        if not 0 < self.crop_share <= 1:
            raise CallError(f"a share of {self.crop_share:g} of the image's side; expected more than 0 and at most 1")
        self._filter = config["interpolation"]
        self._mean, self._std = (torch.tensor(config[key]).reshape(1, -1, 1, 1) for key in ("mean", "std"))
        self.num_classes = int(getattr(model, "num_classes", 0))
        self.label_names, self.label_texts = _labels(model)

    def to(self, device: torch.device) -> PixelClassifier:
        """Move the network to a device, and return the classifier."""
        self._model.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Returns logits, float (N, num_classes), on the CPU."""
        return self._model(self.inputs(images)).float().cpu()

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """Returns what the last layer of the network sees, float (N, F), on the CPU."""
        features = self._model.forward_features(self.inputs(images))
        return self._model.forward_head(features, pre_logits=True).float().cpu()

    def inputs(self, images: Tensor) -> Tensor:
        """Returns what the network is given for images: float (N, 3, h, w), normalized, on the network's device."""
        height, width = self.input_size
        side = max(math.floor(height / self.crop_share), math.floor(width / self.crop_share))
        pixels = images.to(self._mean.device).float()
        if pixels.shape[2:] != (side, side):
            mode = self._filter if self._filter in ("bilinear", "bicubic") else "bicubic"
            pixels = interpolate(pixels, size=(side, side), mode=mode, antialias=True).round().clamp(0, 255)
        top, left = (round((side - length) / 2) for length in (height, width))
        pixels = pixels[:, :, top : top + height, left : left + width] / 255
        normalized = (pixels.expand(-1, 3, -1, -1) - self._mean) / self._std
        return normalized.contiguous(memory_format=torch.channels_last)


def load_pixel_classifier(
    name: str, weights: Path | str | None = None, *, crop_share: float | None = None
) -> PixelClassifier:
    """Load a timm classifier with published weights, which are downloaded, or with those of a safetensors file.

    `crop_share` is timm's `crop_pct`: the side of the part of an image that the network sees, over that of the image;
    None is the model's own. Raises `CallError` for an unknown model, a file that is not called `….safetensors` and
    weights of another model, `DamagedError` for a file that is not safetensors, `JobError` if weights cannot be
    downloaded.
    """
    name = resolve_model(name)
    if weights is None:
        return PixelClassifier(load_pretrained(name, True, {}), name, crop_share)
    path = Path(weights)
    if path.suffix != ".safetensors" or not path.is_file():
        raise CallError(
            f"weights {str(path)!r} are not a safetensors file; name one, or convert a checkpoint with "
            "`cdl weights convert`"
        )
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise DamagedError(f"{path}: not readable as safetensors ({first_line(error)}); get the file again") from error
    return PixelClassifier(build_for_weights(name, tensors, origin=str(path)), name, crop_share)


def _labels(model: nn.Module) -> tuple[list[str] | None, list[str] | None]:
    """Returns names and descriptions of the classes as timm knows them: WordNet ids and words for ImageNet."""
    config = getattr(model, "pretrained_cfg", {})
    if config.get("label_names"):
        texts = config.get("label_descriptions") or {}
        return list(config["label_names"]), [texts.get(name, name) for name in config["label_names"]]
    subset = infer_imagenet_subset(model)
    if subset is None:
        return None, None
    info = ImageNetInfo(subset)
    return info.label_names(), info.label_descriptions()
