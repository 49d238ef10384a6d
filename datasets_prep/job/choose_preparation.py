"""Which preparation a source needs for a codec: the one place where kinds of signals are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets_prep.decode.audio import AudioPreparation, segment_samples
from datasets_prep.decode.images import ImagePreparation
from datasets_prep.decode.ragged import RaggedPreparation
from datasets_prep.decode.views import ViewedImagePreparation, parse_views
from datasets_prep.job.config import DEFAULT_SEGMENT_S, PrepareConfig
from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources.core.source import Source
from walloc_cdl.codec import Codec
from walloc_cdl.errors import CallError

SETTINGS = {
    "image": ("size", "resize", "crop", "icc", "decoder", "views"),
    "array": (),
    "audio": ("segment_s", "hop_s", "normalization"),
}
"""Which settings of `PrepareConfig` each kind of signal has."""

REMEDIES = {
    "size": "only image files are resized; arrays are cut by ?patch=SIDE, audio by segments",
    "resize": "only image files are resized",
    "crop": "only image files are cropped; arrays are cut by ?patch=SIDE",
    "icc": "only image files have color profiles",
    "decoder": "only image files are decoded to less than their size",
    "views": "only image files are cropped and mirrored",
    "segment_s": "only audio is cut into segments",
    "hop_s": "only audio is cut into segments; arrays take ?hop=PIXELS",
    "normalization": "only audio is normalized; arrays take ?range=LOW,HIGH",
}


def choose_preparation(source: Source, codec: Codec, config: PrepareConfig) -> Preparation:
    """How the source's samples become the codec's input.

    Raises `CallError` for a codec of another kind of signal or channel count, and for settings that the
    source's kind does not have.
    """
    require_kind(source, codec)
    for name, remedy in REMEDIES.items():
        value = getattr(config, name)
        if value is not None and name not in SETTINGS[source.kind]:
            raise CallError(f"{name} is {value}, but source {source.name} is of kind {source.kind}; {remedy}")
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
        raise CallError(f"decoder is {config.decoder}, but random crops need all pixels; leave it or the views away")
    return ViewedImagePreparation(codec.spec.source_channels, **chosen, view_names=parse_views(config.views))


def _image_settings(config: PrepareConfig) -> dict[str, Any]:
    names = [name for name in SETTINGS["image"] if name != "views"]
    return {name: value for name in names if (value := getattr(config, name)) is not None}


def _ragged(source: Source, codec: Codec, config: PrepareConfig) -> RaggedPreparation:
    """Whole images and clips; raises `CallError` for settings that decide a size."""
    if source.kind == "array":
        raise CallError(f"geometry ragged, but {source.name} holds arrays, which are cut into patches; leave it away")
    for name in ("size", "resize", "crop", "decoder", "segment_s", "hop_s"):
        if (value := getattr(config, name)) is not None:
            raise CallError(f"{name} is {value}, but with geometry ragged samples keep their own size; leave one away")
    if source.kind == "audio":
        inner: ImagePreparation | AudioPreparation = _audio(source, codec, config)
    else:
        require_channels(source, codec)
        inner = ImagePreparation(codec.spec.source_channels, **_image_settings(config))
    return RaggedPreparation(inner, codec.spec.stride)


def stored_settings(preprocessing: Mapping[str, Any]) -> dict[str, str]:
    """Those settings of `PrepareConfig` that decide an image's pixels, from a manifest's preprocessing of images."""
    names = ("resize", "crop", "icc", "decoder")
    return {name: value for name in names if isinstance(value := preprocessing.get(name), str)}


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
