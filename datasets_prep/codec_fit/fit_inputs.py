"""The signals that a codec is fitted to: a source's samples, prepared as a job prepares them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets_prep.codec_fit.source_signals import Load
from datasets_prep.decode.audio import AudioPreparation
from datasets_prep.decode.images import ImagePreparation
from datasets_prep.job.choose_preparation import choose_preparation
from datasets_prep.job.config import PrepareConfig
from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources import Source
from walloc_cdl.codec import Codec
from walloc_cdl.codec.families.walloc_1d import WallocCodec1D, WallocConfig1D
from walloc_cdl.codec.families.walloc_2d import WallocCodec2D, WallocConfig2D
from walloc_cdl.codec.fit.signal_pass import SignalFit
from walloc_cdl.errors import CallError
from walloc_cdl.settings import settings_of

NATIVE = "native"

Size = int | None
"""Pixels a side, or None for an image's own size."""


@dataclass(frozen=True)
class FitInputs:
    """How samples are prepared for a fit: as `PrepareConfig` with these settings prepares them."""

    sizes: tuple[Size, ...] | None = None
    """Images: sizes to fit to, each sample at each of them. None is the one of `PrepareConfig`, 256."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of `PrepareConfig`, such as `resize`, `crop` or `normalization`."""

    @classmethod
    def of_job(cls, config: PrepareConfig) -> FitInputs:
        """Return the inputs of a job with these settings."""
        names = [name for name, each in settings_of(config).items() if each.signal is not None]
        values = {name: getattr(config, name) for name in names if name not in ("size", "views")}
        sizes = (None,) if config.geometry == "ragged" else (config.size,) if config.size else None
        return FitInputs(sizes, {name: value for name, value in values.items() if value is not None})

    def to_json(self) -> dict[str, Any]:
        """Return sizes and settings of images as plain values."""
        sizes = [NATIVE if size is None else size for size in self.sizes or (ImagePreparation.size,)]
        return {"sizes": sizes, **self.settings}

    @property
    def num_sizes(self) -> int:
        """Number of signals that are made of each sample."""
        return len(self.sizes or (None,))

    def loads(self, source: Source, config: SignalFit) -> tuple[list[Load], dict[str, Any]]:
        """Return what turns a stored sample into signals for a fit, and a description of it for `config.json`.

        Clips are used as a whole, since segments are cut from them. Raises `CallError` for settings that do not apply
        to the source's kind, and for a size that is no multiple of the stride.
        """
        if source.kind != "image":
            return self._loads_of_one_size(source, config)
        size_settings = {name for name, each in settings_of(PrepareConfig).items() if each.determines_size}
        loads: list[Load] = []
        for size in self.sizes or (ImagePreparation.size,):
            settings = dict(self.settings)
            if size is None:
                given = sorted(size_settings & settings.keys())
                if given and self.sizes == (None,):
                    raise CallError(
                        f"{given[0]} is {settings[given[0]]}, but with size {NATIVE} images keep their own size; omit "
                        "one of them"
                    )
                settings = {name: value for name, value in settings.items() if name not in size_settings}
            preparation = _preparation(source, config, PrepareConfig(size=size, **settings))
            if size is None:
                loads.append(_native(preparation, 2**config.levels))
            else:
                unfitted_codec(config).latent_shape(preparation.shape)
                loads.append(preparation.load)
        return loads, self.to_json()

    def _loads_of_one_size(self, source: Source, config: SignalFit) -> tuple[list[Load], dict[str, Any]]:
        settings = dict(self.settings)
        if self.sizes is not None:
            remedy = settings_of(PrepareConfig)["size"].remedy
            raise CallError(
                f"size is {sizes_text(self.sizes)}, but source {source.name} is of kind {source.kind}; {remedy}"
            )
        preparation = _preparation(source, config, PrepareConfig(**settings))
        if isinstance(preparation, AudioPreparation):
            return [_native(preparation, 2**config.levels)], {"normalization": preparation.normalization}
        return [preparation.load], {}


def parse_sizes(text: str) -> tuple[Size, ...]:
    """Return the sizes that `128,256,native` names; raises `CallError` for anything else.

    >>> parse_sizes("128,native")
    (128, None)
    """
    sizes: list[Size] = []
    for part in (part.strip() for part in text.split(",")):
        if part != NATIVE and not (part.isdecimal() and len(part) <= 9):
            raise CallError(f"size {text!r}; expected pixels a side, {NATIVE}, or several, such as 128,256,{NATIVE}")
        size = None if part == NATIVE else int(part)
        PrepareConfig(size=size)  # raises for one out of range
        if size in sizes:
            raise CallError(f"size {text!r} has {part} twice; name each size once")
        sizes.append(size)
    return tuple(sizes)


def sizes_text(sizes: tuple[Size, ...]) -> str:
    """Format sizes as `parse_sizes` reads them."""
    return ",".join(NATIVE if size is None else str(size) for size in sizes)


def unfitted_codec(config: SignalFit) -> Codec:
    """Return a codec that takes the signals of a fit, with one latent channel whose weights are not set."""
    fields = {"channels": config.channels, "levels": config.levels, "latent_channels": 1, "name": config.name}
    if config.kind == "audio":
        return WallocCodec1D(WallocConfig1D(**fields, sample_rate=config.sample_rate))
    return WallocCodec2D(WallocConfig2D(**fields))


def _preparation(source: Source, config: SignalFit, settings: PrepareConfig) -> Preparation:
    return choose_preparation(source, unfitted_codec(config), settings, convert_color=True)


def _native(preparation: Preparation, stride: int) -> Load:
    return lambda stored: preparation.load_native(stored, stride)
