"""`LatentClassifier` and `create_model`, which puts a timm model on the latents of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from classifiers.adapt import adapt_to_latents
from classifiers.backbones import build_backbone, choose_patch_size, pretrained_identity, require_model, require_runs
from classifiers.config import STEMS, ClassifierConfig
from classifiers.stems import ChannelsStem, SynthesisStem
from walloc_cdl.data import ChannelStatistics, LatentDataset, ModelInput
from walloc_cdl.errors import CallError, unknown_name
from walloc_cdl.spec import LatentSpec
from walloc_cdl.synthesis import LinearSynthesis, choose_block

DEFAULT_ALPHA = {"synthesis": 1.0, "channels": 0.5}
"""The synthesis undoes the scaling, so there it only matters to latent-space transforms."""


@dataclass(frozen=True)
class Origin:
    """What a classifier was made from beside its configuration."""

    manifest_sha256: str | None = None
    """Of the data set whose statistics and synthesis it has; None for a model that was built to load weights into."""
    pretrained: str | None = None
    """Where its pretrained weights come from, as of `pretrained_identity`; None without."""


class LatentClassifier(nn.Module):
    """Codes uint8 (B, K, h, w) to logits (B, num_classes): input, transforms, stem, backbone.

    `transforms`, if any, acts on the model input (B, K, h, w) while training; it is not saved. `origin` says what
    the initial weights and the buffers were made from.
    """

    def __init__(
        self,
        config: ClassifierConfig,
        model_input: ModelInput,
        stem: nn.Module,
        backbone: nn.Module,
        transforms: nn.Module | None = None,
        origin: Origin | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.origin = origin or Origin()
        self.input = model_input
        self.stem = stem
        self.backbone = backbone
        self.transforms = transforms

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (B, num_classes)."""
        x = self.input(codes)
        if self.transforms is not None and self.training:
            x = self.transforms(x)
        return self.backbone(self.stem(x))

    def no_weight_decay(self) -> set[str]:
        """Names of the weights that the timm model exempts from weight decay, such as position embeddings."""
        exempt = self.backbone.no_weight_decay() if hasattr(self.backbone, "no_weight_decay") else ()
        return {f"backbone.{name}" for name in exempt}

    def saved_weights(self) -> dict[str, Tensor]:
        """What is averaged and saved of the model, themselves and not copies: its state but that of transforms."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("transforms.")}


def create_model(
    name: str,
    dataset: LatentDataset,
    *,
    stem: str = "synthesis",
    grid: int | None = None,
    pretrained: bool | str | Path = False,
    alpha: float | None = None,
    num_classes: int | None = None,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    transforms: nn.Module | None = None,
) -> LatentClassifier:
    """The timm model `name` on the latents of a data set.

    `grid` is the height in pixels of what the timm model sees, a multiple of the latent grid's; by
    default as many pixels as there are stored values, 64 for 12×32×32 codes of RGB. With the `channels`
    stem it names the pixel model whose feature maps are matched. `pretrained` may be a safetensors file
    of published weights. Weights are drawn from torch's global generator.

    Raises `CallError` for unknown names, for a grid that the data set or the model does not offer, and for a
    data set whose samples differ in size or whose labels are no class numbers,
    `JobError` if published weights cannot be fetched.

    >>> model = create_model("resnet18", open_latents("DATA/clothing-latents"))        # doctest: +SKIP
    >>> model(codes).shape                               # uint8 (B, 12, 32, 32)       # doctest: +SKIP
    torch.Size([B, 10])
    """
    require_model(name)
    if stem not in STEMS:
        raise unknown_name("stem", stem, STEMS, f"choose one of {', '.join(STEMS)}")
    require_class_numbers(dataset)
    grid = _require_grid(dataset, stem, grid)
    config = ClassifierConfig(
        name=name,
        stem=stem,
        grid=grid,
        alpha=DEFAULT_ALPHA[stem] if alpha is None else float(alpha),
        num_classes=_count_classes(dataset, num_classes),
        spec=dataset.spec,
        latent_shape=tuple(dataset.latent_shape),
        class_names=None if dataset.class_names is None else tuple(dataset.class_names),
        pretrained=bool(pretrained),
        patch_size=None if pretrained else choose_patch_size(name, grid),
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
    )
    model_input = ModelInput(dataset.spec, dataset.statistics, config.alpha)
    backbone = build_backbone(config, pretrained)
    if stem == "channels":
        front: nn.Module = _channels_stem(backbone, config)
    else:
        layer = choose_block(dataset.synthesis_bank, config.block)
        front = SynthesisStem.fold(layer, model_input, *_pixel_normalization(backbone, config, layer))
    origin = Origin(dataset.manifest.digest(), pretrained_identity(name, pretrained))
    model = LatentClassifier(config, model_input, front, backbone, transforms, origin)
    require_runs(model, config)
    return model


def rebuild_model(config: ClassifierConfig) -> LatentClassifier:
    """A classifier of the right structure, with weights, synthesis and statistics still to be loaded."""
    require_model(config.name)
    channels = config.spec.latent_channels
    model_input = ModelInput(config.spec, ChannelStatistics(np.zeros(channels), np.ones(channels)), config.alpha)
    backbone = build_backbone(config)
    if config.stem == "channels":
        front: nn.Module = _channels_stem(backbone, config)
    else:
        front = SynthesisStem.blank(config.spec.source_channels, channels, config.block)
    return LatentClassifier(config, model_input, front, backbone)


def require_class_numbers(dataset: LatentDataset) -> None:
    """Raise `CallError` for labels that cross entropy cannot learn: it takes one class number a sample."""
    if (kind := dataset.layout.labels.kind) not in ("class", "none"):
        raise CallError(
            f"classifiers learn class numbers, the labels of {dataset.folder} are of kind {kind!r}; "
            "read them with LatentLoader and train a model of your own"
        )


def default_block(spec: LatentSpec) -> int:
    """Pixels a side for each latent at equal stored values: 2 for 12 channels of RGB, 1 for pixels."""
    return max(1, round((spec.latent_channels / spec.source_channels) ** 0.5))


def _channels_stem(backbone: nn.Module, config: ClassifierConfig) -> ChannelsStem:
    return ChannelsStem(adapt_to_latents(backbone, config.name, config.spec.latent_channels, config.block))


def _require_grid(dataset: LatentDataset, stem: str, grid: int | None) -> int:
    spec = dataset.spec
    if spec.kind != "image":
        raise CallError(
            f"classifiers take latents of images, those of {dataset.folder} are of kind {spec.kind!r}; "
            "read them with LatentLoader and train a model of your own"
        )
    height = dataset.latent_shape[1]
    if height is None:
        raise CallError(
            f"classifiers take latents of one size, the samples of {dataset.folder} differ; prepare them with "
            "--geometry fixed, or read crops of them with LatentLoader and train a model of your own"
        )
    if grid is None:
        grid = height * default_block(spec)
    blocks = dataset.synthesis_bank if stem == "synthesis" else range(1, spec.stride + 1)
    if grid < 1 or grid % height or grid // height not in blocks:
        offered = ", ".join(str(height * block) for block in sorted(blocks))
        raise CallError(f"no grid of {grid} pixels for latents of {height} a side; this data set has {offered}")
    return grid


def _count_classes(dataset: LatentDataset, num_classes: int | None) -> int:
    count = dataset.num_classes if num_classes is None else num_classes
    if count < 2:
        raise CallError(f"{count} classes in {dataset.folder}; a classifier needs at least 2, so a labeled data set")
    if count < dataset.num_classes:
        raise CallError(f"num_classes is {count}, but {dataset.folder} has {dataset.num_classes}; leave it away")
    return count


def _pixel_normalization(
    backbone: nn.Module, config: ClassifierConfig, layer: LinearSynthesis
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (C,) for pixels in [-0.5, 0.5]: what pretrained weights expect, or the data's own."""
    if config.pretrained and config.spec.source_channels == 3:
        published = backbone.pretrained_cfg
        return np.asarray(published["mean"]) - 0.5, np.asarray(published["std"])
    return layer.pixel_mean, layer.pixel_std
