"""Decodes audio to float32 in [-0.5, 0.5] at the codec's sample rate, in segments of one length.

- Integer samples of b bits represent v / 2^(b-1), so that 16-bit and 24-bit files are exact. Samples beyond ±1, of
  float files and after resampling, are clipped. The codec gets half of these values.
- Mono becomes stereo by repeating the channel; two or more channels become mono by their mean.
- soxr (`HQ`) resamples the whole clip at once; segments are cut afterwards.
- Normalization by clip subtracts the mean, divides by (largest magnitude + 1e-8) and halves; without it a clip
  keeps its loudness.

Clips are cut after resampling so that segments equal the corresponding parts of the resampled clip, a segment is
normalized with its clip, and nothing depends on the positions to which a decoder can seek (MP3 and Vorbis seek to
packets). The price is that a clip is decoded as a whole, with at most `MAX_CLIP_VALUES` values, and no more than
`datasets_prep.decode.expansion` allows a file of its size; a worker caches the last clip, since its segments are
requested in sequence.

Durations are rounded down to the stride, so that a clip of exactly that duration is one segment; they are rounded up
if the rest of a clip is padded, for the same reason.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datasets_prep.decode.expansion import require_expansion
from datasets_prep.samples.preparation import Preparation
from datasets_prep.samples.stored import AudioSegment, BadSignalError, Stored, sample_error
from walloc_cdl.errors import CallError

MAX_CLIP_VALUES = 2**28
"""Limit for samples times channels of a clip, as stored and resampled: 50 minutes of stereo at 44.1 kHz, 1 GiB."""

UNKNOWN_FRAMES = 2**63 - 1
"""The number of frames that libsndfile reports for a FLAC file that was written as a stream."""

RESAMPLER = "HQ"

RESTS = {"drop": "dropped", "pad": "silence at the end"}
"""Maps each value of `AudioPreparation.rest` to its description in manifests."""


@dataclass(frozen=True)
class ClipInfo:
    """The content of a file's header."""

    num_frames: int
    sample_rate: int
    channels: int
    file_bytes: int
    """The size of the file."""

    def require_decodable(self, sample_rate: int, channels: int) -> None:
        """Raise `BadSignalError` for a clip whose header has no length, and for one that has too many samples.

        Both the stored samples count and those that they become at a rate in Hz and with a number of channels.
        """
        if self.num_frames >= UNKNOWN_FRAMES:
            raise BadSignalError("its header does not say how long it is, as of a recorded stream; encode it again")
        if self.num_frames * self.channels > MAX_CLIP_VALUES:
            raise BadSignalError(f"{self.num_frames:,} samples, more than {MAX_CLIP_VALUES // self.channels:,}")
        length = max(self.resampled_frames(sample_rate), 1)
        if length * channels > MAX_CLIP_VALUES:
            raise BadSignalError(f"{length:,} samples at {sample_rate} Hz, more than {MAX_CLIP_VALUES // channels:,}")
        require_expansion(max(self.num_frames * self.channels, length * channels), self.file_bytes)

    def resampled_frames(self, sample_rate: int) -> int:
        """Number of samples at another rate in Hz, rounded to the nearest integer, halves up."""
        return (2 * self.num_frames * sample_rate + self.sample_rate) // (2 * self.sample_rate)


def require_audio_packages() -> None:
    """Raise `CallError` unless soundfile and soxr can be imported."""
    try:
        import soundfile  # noqa: F401
        import soxr  # noqa: F401
    except (ImportError, OSError) as error:
        raise CallError(
            f"audio needs the packages soundfile and soxr ({error}); `pip install 'walloc-cdl[audio]'`"
        ) from error


def read_clip_info(path: os.PathLike[str]) -> ClipInfo:
    """Read length, rate and channels from the file's header; raises `BadSignalError` if that fails."""
    import soundfile

    try:
        info, file_bytes = soundfile.info(_system_path(path)), os.stat(path).st_size
    except (soundfile.LibsndfileError, RuntimeError, OSError, ValueError) as error:
        _require_readable(path)
        raise BadSignalError(_reason(path, error)) from error
    if info.frames <= 0 or info.samplerate <= 0:
        raise BadSignalError("no samples")
    return ClipInfo(info.frames, info.samplerate, info.channels, file_bytes)


@dataclass(frozen=True)
class AudioPreparation(Preparation):
    """Cuts clips into segments of `num_samples` at `sample_rate`, every `hop` samples; see the module's docstring."""

    channels: int
    sample_rate: int
    """In Hz."""
    num_samples: int
    """Length of a segment."""
    hop: int
    """Samples from the start of a segment to the start of the next one."""
    normalization: str = "none"
    """`none`, or `clip`."""
    rest: str = "drop"
    """What becomes of a clip's end after its last complete segment: `drop`, or `pad`, a last segment with silence."""

    kind: ClassVar[str] = "audio"
    dtype: ClassVar[np.dtype] = np.dtype(np.float32)
    packages: ClassVar[tuple[str, ...]] = ("numpy", "soundfile", "soxr")
    memory_bytes: ClassVar[int | None] = 4 * 2**30

    @property
    def shape(self) -> tuple[int, int]:
        """(C, T)."""
        return self.channels, self.num_samples

    def starts(self, clip_samples: int) -> range:
        """Return the starts of the segments of a clip.

        A clip shorter than a segment gives one segment, padded with silence; for the rest of a longer clip after its
        last complete segment see `rest`.

        >>> AudioPreparation(1, 44100, num_samples=100, hop=50).starts(240)
        range(0, 101, 50)
        >>> AudioPreparation(1, 44100, num_samples=100, hop=50, rest="pad").starts(240)
        range(0, 151, 50)
        """
        last = max(clip_samples - self.num_samples, 0)
        if self.rest == "pad":  # the first start from which a segment reaches the end, if any of the clip is there
            last = min(-(-last // self.hop) * self.hop, max(clip_samples - 1, 0))
        return range(0, last + 1, self.hop)

    def load(self, stored: Stored) -> np.ndarray:
        """See `Preparation.load`; samples beyond the clip's end are silence."""
        start = stored.start if isinstance(stored, AudioSegment) else 0
        clip = self.load_clip(stored)
        if start and start >= clip.shape[1]:
            raise BadSignalError(f"{clip.shape[1]:,} samples, fewer than the file's header says")
        piece = clip[:, start : start + self.num_samples]
        segment = np.zeros(self.shape, np.float32)
        segment[:, : piece.shape[1]] = piece
        return segment

    def load_clip(self, stored: Stored) -> np.ndarray:
        """Return the whole clip, float32 (C, L) in [-0.5, 0.5], read-only; raises `BadSignalError`."""
        return self._clip(stored.path if isinstance(stored, AudioSegment) else stored)

    def load_native(self, stored: Stored, multiple: int) -> np.ndarray:
        """See `Preparation.load_native`: the whole clip from its beginning."""
        clip = self.load_clip(stored)
        length = clip.shape[1] // multiple * multiple
        if not length:
            raise BadSignalError(f"{clip.shape[1]} samples, fewer than the stride {multiple}")
        return clip[:, :length].copy()

    def to_json(self) -> dict[str, Any]:
        """See `Preparation.to_json`."""
        return {
            "kind": self.kind,
            "channels": self.channels,
            "sample_rate": self.sample_rate,
            "segment_samples": self.num_samples,
            "hop_samples": self.hop,
            "normalization": self.normalization,
            "resampling": f"soxr {RESAMPLER}, whole clip",
            "short_clips": "silence at the end",
            "rest": RESTS[self.rest],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AudioPreparation:
        """Inverse of `to_json`; ragged geometry has no segments and no hop there, since its clips are not cut.

        Raises `KeyError` for a missing value and `ValueError` for an invalid one.
        """
        numbers = {
            "channels": values["channels"],
            "sample_rate": values["sample_rate"],
            "num_samples": values.get("segment_samples", 1),
            "hop": values.get("hop_samples", 1),
        }
        for name, value in numbers.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}, expected a whole number above 0")
        rests = {text: rest for rest, text in RESTS.items()}
        rest = rests.get(values.get("rest", RESTS["drop"]), str(values.get("rest"))[:60])
        return AudioPreparation(**numbers, normalization=values["normalization"], rest=rest)

    def versions(self) -> dict[str, str]:
        """See `Preparation.versions`; adds libsndfile, which decodes and may be the system's."""
        import soundfile

        return {**super().versions(), "libsndfile": soundfile.__libsndfile_version__}

    def _clip(self, stored: bytes | os.PathLike[str]) -> np.ndarray:
        if isinstance(stored, bytes):
            return load_clip(stored, self.channels, self.sample_rate, self.normalization)
        try:
            stamp = os.stat(stored).st_mtime_ns
        except OSError as error:
            raise sample_error(error) from error
        key = os.fspath(stored), stamp, self.channels, self.sample_rate, self.normalization
        clip = _LAST_CLIP.get(key)
        if clip is None:
            _LAST_CLIP.clear()  # before the next one is decoded, so that memory never holds two
            clip = load_clip(key[0], self.channels, self.sample_rate, self.normalization)
            _LAST_CLIP[key] = clip
        return clip


_LAST_CLIP: dict[tuple[str, int, int, int, str], np.ndarray] = {}
"""The last clip, by everything that determines it, because its segments are requested in sequence."""


def load_clip(file: str | bytes, channels: int, sample_rate: int, normalization: str) -> np.ndarray:
    """Decode a whole clip to float32 (C, L) in [-0.5, 0.5], read-only; raises `BadSignalError`.

    Takes the memory of two clips: every step that can works in place.
    """
    samples, rate = _decode(file, channels, sample_rate)
    clip = to_channels(np.clip(samples, -1, 1, out=samples), channels)
    del samples
    clip = resample(clip, rate, sample_rate)
    if normalization == "clip" and clip.size:
        clip -= clip.mean()
        clip /= max(clip.max(), -clip.min()) + np.float32(1e-8)
    clip = np.ascontiguousarray(clip.T, dtype=np.float32)
    np.clip(clip, -1, 1, out=clip)
    clip /= 2
    clip.flags.writeable = False
    return clip


def _decode(file: str | bytes, channels: int, sample_rate: int) -> tuple[np.ndarray, int]:
    """Return samples float32 (L, channels of the file), ±1 at full scale, and their rate in Hz.

    Raises `BadSignalError` for a clip that cannot become one of `channels` at `sample_rate` in Hz.
    """
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(file) if isinstance(file, bytes) else _system_path(file)) as sound:
            file_bytes = len(file) if isinstance(file, bytes) else os.stat(file).st_size
            if sound.frames and sound.samplerate > 0:
                info = ClipInfo(sound.frames, sound.samplerate, sound.channels, file_bytes)
                info.require_decodable(sample_rate, channels)
            samples, rate = sound.read(dtype="float32", always_2d=True), sound.samplerate
            if len(samples) < sound.frames:  # libsndfile takes an error of the system for the end of the file
                _require_readable(file)
    except BadSignalError:
        raise
    except (soundfile.LibsndfileError, RuntimeError, OSError, ValueError) as error:
        _require_readable(file)
        raise BadSignalError(_reason(file, error)) from error
    if not len(samples) or rate <= 0:
        raise BadSignalError("no samples")
    if not np.isfinite([samples.min(), samples.max()]).all():
        raise BadSignalError("samples that are not finite")
    return samples, rate


def _system_path(path: str | os.PathLike[str]) -> str | bytes:
    """Return a path as soundfile takes it: as the system's bytes, which need not be UTF-8."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


def to_channels(samples: np.ndarray, channels: int) -> np.ndarray:
    """Return samples (L, channels): repeats one channel, or averages several to one.

    Raises `BadSignalError` for other conversions.
    """
    found = samples.shape[1]
    if found == channels:
        return samples
    if channels == 1:
        return samples.mean(axis=1, keepdims=True, dtype=np.float32)
    if found == 1:
        return np.repeat(samples, channels, axis=1)
    raise BadSignalError(f"{found} channels, which do not become {channels}; only mono is repeated or mixed down to")


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Resample (L, C) from `rate` to `wanted`, both in Hz; the length is rounded to the nearest integer."""
    if rate == wanted:
        return samples
    import soxr

    return soxr.resample(samples, rate, wanted, quality=RESAMPLER)


def segment_samples(seconds: float, sample_rate: int, stride: int, *, up: bool = False) -> int:
    """Return the largest multiple of the stride within a duration, at least one stride; with `up` the next larger one.

    Raises `CallError` for a duration that is not positive, or longer than the longest clip.

    >>> segment_samples(1.0, 44100, 256)
    44032
    >>> segment_samples(1.0, 44100, 256, up=True)
    44288
    """
    if not 0 < seconds < math.inf:
        raise CallError(f"segments of {seconds:g} s; expected a duration above 0")
    if seconds * sample_rate > MAX_CLIP_VALUES:
        longest = MAX_CLIP_VALUES // sample_rate
        raise CallError(f"segments of {seconds:g} s; the longest clip that is decoded has {longest:,} s")
    strides = seconds * sample_rate / stride
    return max(1, math.ceil(strides - 1e-9) if up else math.floor(strides + 1e-9)) * stride


def _require_readable(file: bytes | str | os.PathLike[str]) -> None:
    """Raise `UnreadableError` if the system cannot read a whole file; libsndfile's errors do not tell."""
    if isinstance(file, bytes):
        return
    try:
        with open(file, "rb") as stream:
            while stream.read(2**20):
                pass
    except OSError as error:
        raise sample_error(error) from error


def _reason(file: str | bytes | os.PathLike[str], error: Exception) -> str:
    """Return a ledger's reason without the file's path, which libsndfile's messages may contain."""
    if not isinstance(file, bytes) and Path(file).is_file() and not Path(file).stat().st_size:
        return "empty file"
    text = getattr(error, "error_string", None) or str(error).rpartition(": ")[2]
    return f"cannot be decoded: {' '.join(text.split())[:200] or type(error).__name__}"
