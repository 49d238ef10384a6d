"""Which preparation a source needs for a codec: the one place where kinds of signals are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from datasets_prep.decode.audio import AudioPreparation, segment_samples
from datasets_prep.decode.images import ImagePreparation
from datasets_prep.decode.ragged import RaggedPreparation
from datasets_prep.decode.views import ViewedImagePreparation, parse_views
from datasets_prep.job.config import DEFAULT_SEGMENT_S, PrepareConfig
from datasets_prep.job.settings import settings_of
from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources.core.source import Source
from walloc_cdl.codec import Codec
from walloc_cdl.errors import CallError


def choose_preparation(source: Source, codec: Codec, config: PrepareConfig) -> Preparation:
    """How the source's samples become the codec's input.

    Raises `CallError` for a codec of another kind of signal or channel count, and for settings that the
    source's kind does not have.
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
    require_channels(source, codec)
    if source.kind == "array":
        return source.root.preparation(multiple=codec.spec.stride)
    chosen = _image_settings(config)
    if config.views is None:
        return ImagePreparation(codec.spec.source_channels, **chosen)
    if config.decoder not in (None, "pil"):
        raise CallError(f"decoder is {config.decoder}, but random crops need all pixels; omit it or the views")
    return ViewedImagePreparation(codec.spec.source_channels, **chosen, view_names=parse_views(config.views))


def _image_settings(config: PrepareConfig) -> dict[str, Any]:
    """The settings of images that are not None, as `ImagePreparation` takes them."""
    return {
        each.name: value for each in fields(ImagePreparation) if (value := getattr(config, each.name, None)) is not None
    }


def _settings_in(preparation: Preparation) -> dict[str, Any]:
    """The settings of `PrepareConfig` that are fields of a preparation, too."""
    return {name: getattr(preparation, name) for name in settings_of(PrepareConfig) if hasattr(preparation, name)}


def _ragged(source: Source, codec: Codec, config: PrepareConfig) -> RaggedPreparation:
    """Whole images and clips; raises `CallError` for settings that decide a size."""
    if source.kind == "array":
        raise CallError(f"geometry ragged, but {source.name} holds arrays, which are cut into patches; omit it")
    for name, each in settings_of(config).items():
        if each.decides_size and (value := getattr(config, name)) is not None:
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
    """The preparation of a data set's samples, by the `preprocessing` of its manifest.

    Arrays are prepared as the source says, whose options decide it. Raises `CallError` for a source of another kind
    of signal or channel count than the codec's, and for a preprocessing that no call of `prepare` leaves.
    """
    require_kind(source, codec)
    if source.kind != "audio":
        require_channels(source, codec)
    if source.kind == "array":
        return source.root.preparation(multiple=codec.spec.stride)
    values = {"channels": codec.spec.source_channels, **preprocessing}
    if source.kind == "audio":
        kind: type[ImagePreparation | AudioPreparation] = AudioPreparation
    else:
        kind = ViewedImagePreparation if "views" in values else ImagePreparation
    try:
        inner = kind.from_json(values)
        PrepareConfig(**_settings_in(inner))  # refuses what a damaged or a foreign manifest may say
    except (KeyError, TypeError, ValueError) as error:
        raise CallError(
            f"the manifest's preprocessing is none of this version's ({type(error).__name__}: {error}); prepare the "
            "source again, in another folder"
        ) from error
    return RaggedPreparation(inner, codec.spec.stride) if values.get("geometry") == "ragged" else inner


def native_preparation(source: Source, channels: int, *, stride: int, sample_rate: int | None = None) -> Preparation:
    """The preparation whose `load_native` gives signals at their own size, for fitting and measuring codecs.

    `sample_rate` of None is the rate that all clips share; raises `CallError` where they have several.
    """
    if source.kind == "array":
        return source.root.preparation(multiple=stride)
    if source.kind == "audio":
        return AudioPreparation(channels, sample_rate or source.root.sample_rate(), stride, stride)
    return ImagePreparation(channels)


def require_kind(source: Source, codec: Codec) -> None:
    """Refuse an image codec for audio and the reverse, naming both."""
    wanted, found = ("audio" if source.kind == "audio" else "image"), codec.spec.kind
    if found != wanted:
        raise CallError(
            f"source {source.name} is of kind {source.kind}, but codec {codec.name} is of kind {found}; "
            f"choose one of kind {wanted}, as `cdl codec list` shows them"
        )


def require_channels(source: Source, codec: Codec) -> None:
    """Refuse images of other channels than the codec's: their stored values would not compare."""
    wanted, found = codec.spec.source_channels, source.channels
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
        f"channels: {wanted}; use one for such images, as {example}"
    )


def _audio(source: Source, codec: Codec, config: PrepareConfig) -> AudioPreparation:
    """At the codec's sample rate; a codec without one, as `resize-mono-4x`, takes clips as they are."""
    spec = codec.spec
    rate = source.root.sample_rate() if spec.sample_rate is None else spec.sample_rate
    length = segment_samples(config.segment_s or DEFAULT_SEGMENT_S, rate, spec.stride)
    hop = length if config.hop_s is None else max(1, round(config.hop_s * rate))
    return AudioPreparation(spec.source_channels, rate, length, hop, config.normalization or "none")
