"""Chooses the preparation of a source for a codec: the only place that distinguishes kinds of signals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from datasets_prep.decode.audio import AudioPreparation, segment_samples
from datasets_prep.decode.images import ImagePreparation
from datasets_prep.decode.ragged import RaggedPreparation
from datasets_prep.decode.views import ViewedImagePreparation, parse_views
from datasets_prep.job.config import DEFAULT_SEGMENT_S, PrepareConfig
from datasets_prep.samples.preparation import Preparation
from datasets_prep.samples.stored import UnusableSample
from datasets_prep.sources.core.source import Source
from walloc_cdl.codec import Codec
from walloc_cdl.errors import CallError
from walloc_cdl.settings import settings_of


def choose_preparation(
    source: Source, codec: Codec, config: PrepareConfig, *, convert_color: bool = False
) -> Preparation:
    """Return the preparation that turns the source's samples into the codec's input.

    With `convert_color`, gray images become color and the reverse, as a codec that is to be fitted may require. Raises
    `CallError` for a codec of another kind of signal or channel count, and for settings that do not apply to the
    source's kind.
    """
    require_kind(source, codec)
    for name, each in settings_of(config).items():
        value = getattr(config, name)
        if value is not None and each.signal not in (None, source.kind):
            raise CallError(f"{name} is {value}, but source {source.name} is of kind {source.kind}; {each.remedy}")
    if config.geometry == "ragged":
        return _ragged(source, codec, config)
    if source.kind == "audio":
        return _audio(source, codec, config)
    if source.kind == "array" or not convert_color:
        require_channels(source, codec)
    if source.kind == "array":
        return source.root.preparation(multiple=codec.spec.stride)
    settings = _image_settings(config)
    if config.views is None:
        return ImagePreparation(codec.spec.source_channels, **settings)
    if config.decoder not in (None, "pil"):
        raise CallError(f"decoder is {config.decoder}, but random crops need all pixels; omit it or the views")
    return ViewedImagePreparation(codec.spec.source_channels, **settings, view_names=parse_views(config.views))


def _image_settings(config: PrepareConfig) -> dict[str, Any]:
    """Return the arguments of `ImagePreparation` from the settings that are not None."""
    return {
        each.name: value for each in fields(ImagePreparation) if (value := getattr(config, each.name, None)) is not None
    }


def _settings_in(preparation: Preparation) -> dict[str, Any]:
    """Return the settings of `PrepareConfig` that are also fields of a preparation."""
    return {name: getattr(preparation, name) for name in settings_of(PrepareConfig) if hasattr(preparation, name)}


def _ragged(source: Source, codec: Codec, config: PrepareConfig) -> RaggedPreparation:
    """Return the preparation of ragged geometry; raises `CallError` for settings that determine a size."""
    if source.kind == "array":
        raise CallError(f"geometry ragged, but {source.name} holds arrays, which are cut into patches; omit it")
    for name, each in settings_of(config).items():
        if each.determines_size and (value := getattr(config, name)) is not None:
            raise CallError(
                f"{name} is {value}, but with geometry ragged samples keep their own size; omit one of them"
            )
    if source.kind == "audio":
        inner: ImagePreparation | AudioPreparation = _audio(source, codec, config)
    else:
        require_channels(source, codec)
        inner = ImagePreparation(codec.spec.source_channels, **_image_settings(config))
    return RaggedPreparation(inner, codec.spec.stride)


def stored_preparation(source: Source, codec: Codec, preprocessing: Mapping[str, Any]) -> Preparation:
    """Return the preparation that the `preprocessing` of a data set's manifest describes.

    The preparation of arrays is taken from the source, whose options determine it. Raises `CallError` for a source
    whose kind of signal or channel count is not the codec's, and for a preprocessing that `prepare` does not write.
    """
    require_kind(source, codec)
    if source.kind != "audio":
        require_channels(source, codec)
    if source.kind == "array":
        return source.root.preparation(multiple=codec.spec.stride)
    return described_preparation(source.kind, codec, preprocessing)


def described_preparation(kind: str, codec: Codec, preprocessing: Mapping[str, Any]) -> Preparation:
    """Return the preparation of files, of `kind` image or audio, that the `preprocessing` of a manifest describes.

    Raises `CallError` for a preprocessing that `prepare` does not write.
    """
    values = {"channels": codec.spec.source_channels, **preprocessing}
    if kind == "audio":
        cls: type[ImagePreparation | AudioPreparation] = AudioPreparation
    else:
        cls = ViewedImagePreparation if "views" in values else ImagePreparation
    try:
        inner = cls.from_json(values)
        PrepareConfig(**_settings_in(inner))  # refuses invalid values of a damaged or foreign manifest
    except (KeyError, TypeError, ValueError) as error:
        raise CallError(
            f"the manifest's preprocessing is not one of this version ({type(error).__name__}: {error}); prepare the "
            "source again, in another folder"
        ) from error
    return RaggedPreparation(inner, codec.spec.stride) if values.get("geometry") == "ragged" else inner


def native_preparation(source: Source, channels: int, *, stride: int, sample_rate: int | None = None) -> Preparation:
    """Return a preparation whose `load_native` gives signals at their own size, for fitting and measuring codecs.

    A `sample_rate` (Hz) of None is the rate that all clips share; raises `CallError` if they have several.
    """
    if source.kind == "array":
        return source.root.preparation(multiple=stride)
    if source.kind == "audio":
        return AudioPreparation(channels, sample_rate or source.root.sample_rate(), stride, stride)
    return ImagePreparation(channels)


def require_kind(source: Source, codec: Codec) -> None:
    """Raise `CallError` for an image codec with audio, and for an audio codec with images or arrays."""
    wanted, found = ("audio" if source.kind == "audio" else "image"), codec.spec.kind
    if found != wanted:
        raise CallError(
            f"source {source.name} is of kind {source.kind}, but codec {codec.name} is of kind {found}; "
            f"choose one of kind {wanted} from `cdl codec list`"
        )


def require_channels(source: Source, codec: Codec) -> None:
    """Raise `CallError` if the images do not have the codec's channel count: their codes would not be comparable."""
    wanted, found = codec.spec.source_channels, source.channels
    if found is None:
        _require_loadable(source)
    if found is None or found == wanted:
        return
    if source.kind == "array":
        raise CallError(
            f"the arrays of source {source.name} have channels: {found}, but codec {codec.name} takes channels: "
            f"{wanted}; fit one to them with `cdl codec fit`, or check ?layout"
        )
    kind, example = ("gray", "gray-16x") if found == 1 else ("in color", "rgb-16x")
    raise CallError(
        f"the images of source {source.name} are {kind} (channels: {found}), but codec {codec.name} takes "
        f"channels: {wanted}; use a codec for such images, such as {example}"
    )


def _require_loadable(source: Source) -> None:
    """Raise `CallError` for a Python data set of which no sample that was looked at is an image: the call is wrong."""
    first = next(source.read(split, 0) for split in source.split_names if source.num_samples(split))
    if isinstance(first, UnusableSample) and first.failure is None:
        raise CallError(f"the samples of source {source.name} cannot be used; the first: {first.reason}")


def _audio(source: Source, codec: Codec, config: PrepareConfig) -> AudioPreparation:
    """Return the preparation at the codec's sample rate.

    A codec without a sample rate, such as `resize-mono-4x`, encodes clips at their own rate.
    """
    spec = codec.spec
    rate = source.root.sample_rate() if spec.sample_rate is None else spec.sample_rate
    rest = config.rest or "drop"
    length = segment_samples(config.segment_s or DEFAULT_SEGMENT_S, rate, spec.stride, up=rest == "pad")
    hop = length if config.hop_s is None else max(1, round(config.hop_s * rate))
    return AudioPreparation(spec.source_channels, rate, length, hop, config.normalization or "none", rest)
