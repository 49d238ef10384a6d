"""Reading and writing whole signals as single files, for each kind of latent."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets_prep.decode.audio import load_clip, require_audio_packages
from datasets_prep.decode.images import load_whole
from datasets_prep.sources.folders.imagefolder import IMAGE_SUFFIXES
from datasets_prep.sources.signals.audiofolder import AUDIO_SUFFIXES
from walloc_cdl.errors import CallError
from walloc_cdl.files import write_atomic
from walloc_cdl.spec import LatentSpec


@dataclass(frozen=True)
class SignalFiles:
    """The files of one kind of signal."""

    suffixes: frozenset[str]
    """Suffixes of readable files, lower case."""
    default_suffix: str
    """Suffix of written files."""
    read: Callable[[Path, LatentSpec], np.ndarray]
    """Reads the whole signal as the codec's input: uint8 (C, H, W), or float32 (C, T) at the codec's sample rate.

    Raises `DamagedError` for a file that cannot be read."""
    write: Callable[[Path, np.ndarray, LatentSpec], None]
    """Writes uint8 (C, H, W) or int16 PCM (C, T); raises `CallError` for a signal that the format cannot hold."""


def signal_files(spec: LatentSpec) -> SignalFiles:
    """Return the files of the signals that `spec` has latents of; `CallError` for a kind without files."""
    if spec.kind not in _BY_KIND:
        raise CallError(f"single files of {spec.kind} cannot be encoded; expected a codec for {', '.join(_BY_KIND)}")
    return _BY_KIND[spec.kind]


def require_image_name(path: Path) -> None:
    """Raise `CallError` unless the file name has the suffix of a format that PIL writes."""
    Image.init()
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise CallError(f"{path} does not end in the suffix of an image format; end its name in .png or .webp")


def _read_image(path: Path, spec: LatentSpec) -> np.ndarray:
    return load_whole(path, spec.source_channels)


def _write_image(path: Path, pixels: np.ndarray, spec: LatentSpec) -> None:
    if len(pixels) not in (1, 3):
        raise CallError(f"{path}: {len(pixels)} channels; image files hold 1 (gray) or 3 (RGB)")
    require_image_name(path)
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image_format = Image.registered_extensions()[path.suffix.lower()]
    buffer = io.BytesIO()
    image.save(buffer, image_format, **({"lossless": True} if image_format == "WEBP" else {}))
    write_atomic(path, buffer.getvalue())


def _read_audio(path: Path, spec: LatentSpec) -> np.ndarray:
    require_audio_packages()
    return load_clip(str(path), spec.source_channels, _sample_rate(spec), "none")


def _write_audio(path: Path, samples: np.ndarray, spec: LatentSpec) -> None:
    require_audio_packages()
    import soundfile

    audio_format = path.suffix.lower().removeprefix(".").upper()
    if not soundfile.check_format(audio_format, "PCM_16"):
        raise CallError(f"{path} does not end in the suffix of a 16-bit audio format; end its name in .wav or .flac")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.T, _sample_rate(spec), format=audio_format, subtype="PCM_16")
    write_atomic(path, buffer.getvalue())


def _sample_rate(spec: LatentSpec) -> int:
    if spec.sample_rate is None:
        raise CallError("the codec has no sample rate, but audio files need one; fit or import the codec with one")
    return spec.sample_rate


_BY_KIND = {
    "image": SignalFiles(IMAGE_SUFFIXES, ".png", _read_image, _write_image),
    "audio": SignalFiles(AUDIO_SUFFIXES, ".wav", _read_audio, _write_audio),
}
