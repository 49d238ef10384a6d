"""`LatentClassifier`, and `create_model`, which builds one from a timm model for the latents of a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from timm.models import get_pretrained_cfg, group_parameters
from torch import Tensor, nn
from torch.utils.data import Dataset

from classifiers.models.backbones import (
    build_backbone,
    choose_patch_size,
    pretrained_identity,
    require_logits,
    resolve_model,
)
from classifiers.models.build_stem import channels_stem, choose_grid, composes_with, synthesis_stem
from classifiers.models.config import LABEL_KINDS, ClassifierConfig
from classifiers.models.crops import in_one_size
from classifiers.models.grids import fit_pixels
from classifiers.models.levels import SynthesisLevels
from classifiers.models.scale import TargetScale
from classifiers.models.settings import STEMS
from classifiers.models.split import BackboneSplit
from classifiers.models.stems import SynthesisStem
from classifiers.sound.cache import SpectrogramCache
from classifiers.sound.spectrogram import SpectrogramStem
from classifiers.sound.stem import build_sound_stem, require_spectrogram
from walloc_cdl.augment.mixing import NeighborMixing
from walloc_cdl.augment.pipeline import PixelAugmentation
from walloc_cdl.augment.spectrogram import SpectrogramAugmentation
from walloc_cdl.data import ChannelStatistics, LatentDataset, ModelInput, as_latents
from walloc_cdl.errors import CallError, unknown_name
from walloc_cdl.planes.levels import LevelTables
from walloc_cdl.transforms.budgets import budgets_in_planes, random_budgets
from walloc_cdl.transforms.config import LatentTransformConfig
from walloc_cdl.transforms.pipeline import LatentTransforms

DEFAULT_ALPHA = {"synthesis": 1.0, "channels": 0.5}
"""The synthesis undoes the scaling, so its alpha matters to latent-space transforms only."""


@dataclass(frozen=True)
class Origin:
    """What a classifier was built from, in addition to its configuration."""

    manifest_sha256: str | None = None
    """Digest of the manifest of the data set whose statistics and synthesis the classifier has; None for a model that
    was built to load weights into."""
    pretrained: str | None = None
    """Where its pretrained weights come from, as `pretrained_identity` returns it; None for random weights."""


class LatentClassifier(nn.Module):
    """Computes logits (B, num_classes) from codes uint8 (B, K, h, w), or (B, K, t) for sound.

    Its parts are input, transforms, stem and backbone.

    Of regression it computes the targets (B, T) in their own units, which `scale` gives them.

    Of latents with bit planes, it takes their rows (B, R), too, as `LatentLoader` gives them.

    `transforms`, if given, acts on the model input (B, K, h, w) in training mode; it is not saved. A module with the
    attribute `takes_words`, such as `LatentTransforms`, is called with the words, too. `origin` describes
    what the initial weights and the buffers were made from. `augmentation`, if it is set, acts on the pixels of the
    synthesis stem, or on its spectrograms, in training mode, for batches that come with words, and `mixing` after it;
    they are not saved either.
    """

    augmentation: PixelAugmentation | SpectrogramAugmentation | None = None
    levels: SynthesisLevels | None = None
    """Stems for larger grids, from which crops are made in training; not saved."""
    mixing: NeighborMixing | None = None
    spectrograms: SpectrogramCache | None = None
    """Of sound, keeps in training what the stem makes of each sample; None computes it in every step."""
    frozen: tuple[nn.Module, ...] = ()
    """Modules that stay in eval mode in training."""
    split: BackboneSplit | None = None
    """The parts of the backbone, if features of its front part are given in place of codes."""

    def __init__(
        self,
        config: ClassifierConfig,
        model_input: ModelInput,
        stem: nn.Module,
        backbone: nn.Module,
        transforms: nn.Module | None = None,
        origin: Origin | None = None,
        scale: TargetScale | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.origin = origin or Origin()
        self.input = model_input
        self.stem = stem
        self.backbone = backbone
        self.transforms = transforms
        self.scale = scale

    def forward(self, codes: Tensor, words: Tensor | None = None) -> Tensor:
        """Returns logits (B, num_classes); `words`, uint64 (B,), are those of `LatentLoader.with_words`.

        Codes may be features of the front part of `split`, float (B, …).
        """
        if self.split is not None and codes.is_floating_point():
            x = self.split.tail(codes)
        else:
            x = self.backbone(self.pixels(codes, words))
        return x if self.scale is None else self.scale(x)

    def pixels(self, codes: Tensor, words: Tensor | None = None) -> Tensor:
        """Returns the input of the backbone for codes, in training mode transformed, augmented and mixed by words."""
        if not self.training:
            words = None
        if self.spectrograms is not None and self.training:
            x = self._augmented(self.spectrograms(codes), words)
        else:
            x = self.augmented_pixels(self._input(codes, words), words)
        if self.mixing is not None and words is not None:
            x = self.mixing(x, words)
        return x

    def _input(self, codes: Tensor, words: Tensor | None) -> Tensor:
        """Returns the model input (B, K, …), in training mode transformed."""
        budgets = None
        if self.config.budgets is not None and words is not None:
            budgets = random_budgets(words.to(codes.device), self.config.budgets)
        x = self.input(codes, budgets)
        if self.transforms is not None and self.training:
            x = self.transforms(x, words) if getattr(self.transforms, "takes_words", False) else self.transforms(x)
        return x

    def augmented_pixels(self, x: Tensor, words: Tensor | None) -> Tensor:
        """Returns the backbone's input for a model input (B, K, …), augmented by words if there are any."""
        augmentation = self.augmentation
        if isinstance(augmentation, PixelAugmentation) and augmentation.crops and words is not None:
            mean, std = self.stem.pixel_mean, self.stem.pixel_std
            levels = self.levels or SynthesisLevels({}, self.input, self.stem, (mean, std))
            return augmentation.of_levels(levels.on(x), words, mean, std, self.config.input_size)
        x = self.stem(x)
        return self._augmented(x if self.config.fit is None else fit_pixels(x, self.config.fit), words)

    def _augmented(self, pixels: Tensor, words: Tensor | None) -> Tensor:
        """Returns pixels, or spectrograms, augmented by words if there are any."""
        if self.augmentation is None or words is None:
            return pixels
        return self.augmentation(pixels, words, self.stem.pixel_mean, self.stem.pixel_std)

    def train(self, mode: bool = True) -> LatentClassifier:
        """Set the mode of all modules but the frozen ones, which stay in eval mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def no_weight_decay(self) -> set[str]:
        """Returns the names of weights that the timm model exempts from weight decay, such as position embeddings."""
        exempt = self.backbone.no_weight_decay() if hasattr(self.backbone, "no_weight_decay") else ()
        return {f"backbone.{name}" for name in exempt}

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Returns the layer of a parameter by its name, from 0, as timm's layer decay asks; the stem's is the first.

        Raises `CallError` for a timm model that does not divide itself into layers.
        """
        if not hasattr(self.backbone, "group_matcher"):
            raise CallError(f"{self.config.name} names no layers, for which layer_decay could be; omit it")
        layers = group_parameters(self.backbone, self.backbone.group_matcher(coarse=coarse), reverse=True)
        return lambda name: layers[name.removeprefix("backbone.")] + 1 if name.startswith("backbone.") else 0

    def saved_weights(self) -> dict[str, Tensor]:
        """Returns the tensors that are averaged and saved, not copied: the model's state without its transforms."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("transforms.")}


def create_model(
    name: str,
    dataset: Dataset,
    *,
    stem: str = "synthesis",
    grid: int | None = None,
    crop: tuple[int, ...] | None = None,
    crop_pct: float | None = None,
    pretrained: bool | str | Path = False,
    alpha: float | None = None,
    num_classes: int | None = None,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    transforms: nn.Module | LatentTransformConfig | None = None,
    budgets: Sequence[int] | None = None,
) -> LatentClassifier:
    """Build a classifier from the timm model `name`, such as `resnet18.a1_in1k` or `hf_hub:timm/resnet18.a1_in1k`.

    `dataset` is a `LatentDataset`, or a `torch.utils.data.Subset` of one; the statistics are those of the
    whole train split.
    `grid` is the height in pixels of the timm model's input, a multiple of the height of the latents. By
    default the input has as many values as bytes are stored: 64 for 12×32×32 codes of RGB. Of sound, whose input is a
    log-mel spectrogram of the synthesized waveform, it is the number of mel bands, by default 64. With the `channels`
    stem it chooses the pixel model whose feature maps are matched. `transforms` may be the settings of transforms of
    latents. With `budgets`, in bytes a sample, training reads each sample with a random one of them, and the classifier
    takes rows of any number of bit planes. Random weights are drawn from torch's global generator.

    `pretrained` is true for published weights, or a safetensors file of such weights. Then the input has the model's
    own size by default, and mean and standard deviation are those that the weights expect. Where that size is no
    multiple of the latents', pixels of a larger grid are resized and cropped as in timm's evaluation (`config.fit`);
    `crop_pct`, as timm calls the share of the side that is seen, chooses another crop, the same for every data set.
    The head is kept if it has as many classes as the data set.

    Of samples that differ in size, it takes crops of `crop` latents, (h, w) or (t,), in training, and tiles or whole
    samples in evaluation.

    The model has an output for each class, or for each target of regression, whose scale is that of the targets of
    `dataset`.

    Raises `CallError` for unknown names, for a grid that the data set or the model does not support, for budgets that
    the data set does not have, for transforms that need operators if it has none, for samples that differ in size
    without a crop, and for a data set without labels, `JobError` if published weights cannot be downloaded.

    >>> model = create_model("resnet18", open_latents("DATA/clothing-latents"))        # doctest: +SKIP
    >>> model(codes).shape                               # uint8 (B, 12, 32, 32)       # doctest: +SKIP
    torch.Size([B, 10])
    """
    name = resolve_model(name)
    dataset = in_one_size(as_latents(dataset), crop)
    if stem not in STEMS:
        raise unknown_name("stem", stem, STEMS, f"choose one of {', '.join(STEMS)}")
    label_kind = _label_kind(dataset)
    published = get_pretrained_cfg(name) if pretrained else None
    spectrogram = require_spectrogram(dataset, stem, grid) if dataset.spec.kind == "audio" else None
    if spectrogram is None:
        grid, fit = choose_grid(dataset, name, stem, grid, published, crop_pct)
    else:
        grid, fit = spectrogram.bands, None
    config = ClassifierConfig(
        name=name,
        stem=stem,
        grid=grid,
        alpha=DEFAULT_ALPHA[stem] if alpha is None else float(alpha),
        num_classes=_count_outputs(dataset, label_kind, num_classes),
        spec=dataset.spec,
        latent_shape=tuple(dataset.latent_shape),
        label_kind=label_kind,
        class_names=None if dataset.class_names is None else tuple(dataset.class_names),
        target_names=None if dataset.manifest.target_names is None else tuple(dataset.manifest.target_names),
        pretrained=bool(pretrained),
        patch_size=None if pretrained else choose_patch_size(name, grid),
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
        fit=fit,
        is_composed=bool(pretrained) and stem == "channels" and composes_with(name, dataset, grid),
        spectrogram=spectrogram,
        budgets=None if budgets is None else budgets_in_planes(dataset.spec, dataset.layout.grid, budgets),
    )
    model_input = ModelInput(
        dataset.spec,
        dataset.statistics,
        config.alpha,
        levels=dataset.levels,
        grid=config.latent_shape[1:],
        prefixes=config.budgets is not None,
    )
    if isinstance(transforms, LatentTransformConfig):
        transforms = LatentTransforms.of_dataset(transforms, dataset, model_input)
    backbone = build_backbone(config, pretrained)
    levels = None
    if spectrogram is not None:
        stem_module: nn.Module = build_sound_stem(spectrogram, dataset, model_input)
    elif stem == "channels":
        stem_module = channels_stem(
            backbone, config, lambda: synthesis_stem(dataset, config, published, model_input)[0]
        )
    else:
        stem_module, normalization = synthesis_stem(dataset, config, published, model_input)
        levels = SynthesisLevels(dataset.synthesis_bank, model_input, stem_module, normalization)
    origin = Origin(dataset.manifest.digest(), pretrained_identity(name, pretrained))
    scale = TargetScale.of(dataset.labels) if label_kind == "regression" else None
    model = LatentClassifier(config, model_input, stem_module, backbone, transforms, origin, scale)
    model.levels = levels
    require_logits(model, config)
    return model


def rebuild_model(config: ClassifierConfig) -> LatentClassifier:
    """Build a classifier of the given structure, into which weights, synthesis and statistics can be loaded."""
    resolve_model(config.name)
    channels = config.spec.latent_channels
    statistics = ChannelStatistics(np.zeros(channels), np.ones(channels))
    levels = None if config.spec.planes is None else LevelTables.zeros(config.spec.channel_bits)
    model_input = ModelInput(
        config.spec,
        statistics,
        config.alpha,
        levels=levels,
        grid=config.latent_shape[1:],
        prefixes=config.budgets is not None,
    )
    backbone = build_backbone(config)
    if config.spectrogram is not None:
        stem_module: nn.Module = SpectrogramStem.zeros(config.spectrogram, config.spec.source_channels, channels)
    elif config.stem == "channels":
        stem_module = channels_stem(
            backbone, config, lambda: SynthesisStem.zeros(config.spec.source_channels, channels, config.block)
        )
    else:
        stem_module = SynthesisStem.zeros(config.spec.source_channels, channels, config.block)
    scale = TargetScale.ones(config.num_classes) if config.label_kind == "regression" else None
    return LatentClassifier(config, model_input, stem_module, backbone, scale=scale)


def _label_kind(dataset: LatentDataset) -> str:
    """Return the kind of labels that is learned; without labels it is `class`, for which classes are counted later."""
    kind = dataset.layout.labels.kind
    return kind if kind in LABEL_KINDS else "class"


def _count_outputs(dataset: LatentDataset, label_kind: str, num_classes: int | None) -> int:
    if label_kind != "class":
        count, noun = dataset.layout.labels.num_columns, "classes" if label_kind == "multilabel" else "targets"
        if num_classes not in (None, count):
            raise CallError(
                f"num_classes is {num_classes}, but the labels of {dataset.folder} are of {count} {noun}; omit it"
            )
        return count
    count = dataset.num_classes if num_classes is None else num_classes
    if count < 2:
        raise CallError(f"{dataset.folder} has {count} classes; a classifier needs at least 2: use a labeled data set")
    if count < dataset.num_classes:
        raise CallError(f"num_classes is {count}, but {dataset.folder} has {dataset.num_classes}; omit it")
    return count
