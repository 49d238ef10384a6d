"""`cdl bench archive`: size and speed of archives in each container, the table in docs/archives.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from walloc_cdl.codec import Codec
from walloc_cdl.errors import JobError
from walloc_cdl.latents.archive import CONTAINERS, archive_from_bytes, archive_to_bytes, picture_to_bytes
from walloc_cdl.latents.archive.jxl import is_available
from walloc_cdl.spec import LatentSpec

AUDIO_SPEC = LatentSpec("0" * 64, "audio", 2, 27, 128, 8, "normal")
"""The spec of `audio_like_codes`."""


@dataclass(frozen=True)
class ContainerResult:
    """Totals over all latents; a megabyte is 10^6 codes."""

    codes: str
    container: str
    ratio: float
    """Bytes of the codes over bytes of the archived pictures, without metadata."""
    bits_per_code: float
    encode_mb_per_s: float
    decode_mb_per_s: float

    def to_json(self) -> dict[str, float | str]:
        """Returns plain values."""
        return asdict(self)


def image_codes(codec: Codec, images: Iterable[torch.Tensor]) -> list[np.ndarray]:
    """Encode images uint8 (C, H, W), with sides divisible by the stride, to codes uint8 (K, h, w).

    Raises `JobError` if there are no images.
    """
    codes = [codec.encode(image[None])[0].cpu().numpy() for image in images]
    if not codes:
        raise JobError("no image to measure on; name a folder with images at least as large as the codec's stride")
    return codes


def audio_like_codes(num: int = 4, seed: int = 0) -> list[np.ndarray]:
    """Generate codes uint8 (27, 2048) like those of audio: 27 bands of falling variance with slowly changing loudness.

    The values are Gaussian, scaled by a loudness that follows a random walk over frames, and uncorrelated,
    like the bands of a wavelet packet of noise-like sound.
    """
    rng = np.random.default_rng(seed)
    band = np.exp(-np.arange(27) / 8)[:, None]
    codes = []
    for _ in range(num):
        loudness = np.exp(np.cumsum(rng.normal(0, 0.05, (1, 2048)), axis=1).clip(-2, 2))
        values = 30 * band * loudness * rng.normal(size=(27, 2048))
        codes.append((np.rint(values).clip(-127, 127) + 128).astype(np.uint8))
    return codes


def measure_containers(name: str, codes: list[np.ndarray], spec: LatentSpec) -> list[ContainerResult]:
    """Measure each container on the same codes, and JPEG-LS if imagecodecs is installed.

    Raises `JobError` if decoding does not restore the codes.
    """
    names = [container for container in CONTAINERS if container != "jxl" or is_available()]
    results = [_measure(name, container, codes, _archive_coder(container, spec)) for container in names]
    return [*results, _measure(name, "jpeg-ls", codes, _jpeg_ls_coder())] if is_available() else results


@dataclass(frozen=True)
class _Coder:
    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes], np.ndarray]
    size: Callable[[np.ndarray], int]
    """Returns the bytes of the picture without metadata."""


def _archive_coder(container: str, spec: LatentSpec) -> _Coder:
    def encode(codes: np.ndarray) -> bytes:
        signal_shape = (spec.source_channels, *(spec.stride * size for size in codes.shape[1:]))
        return archive_to_bytes(codes, spec, signal_shape=signal_shape, container=container)

    def size(codes: np.ndarray) -> int:
        return len(picture_to_bytes(codes, bits=spec.bits, container=container))

    return _Coder(encode, lambda data: archive_from_bytes(data).codes, size)


def _jpeg_ls_coder() -> _Coder:
    """Returns the coder of JPEG-LS (ISO/IEC 14495-1), with the channels stacked vertically in one plane."""
    import imagecodecs

    def encode(codes: np.ndarray) -> bytes:
        return imagecodecs.jpegls_encode(np.ascontiguousarray(codes.reshape(-1, codes.shape[-1])))

    return _Coder(encode, imagecodecs.jpegls_decode, lambda codes: len(encode(codes)))


def _measure(name: str, container: str, codes: list[np.ndarray], coder: _Coder) -> ContainerResult:
    coder.decode(coder.encode(codes[0]))  # imports and tables are not part of the measurement
    start = time.perf_counter()
    files = [coder.encode(item) for item in codes]
    encoded_s = time.perf_counter() - start
    start = time.perf_counter()
    decoded = [coder.decode(data) for data in files]
    decoded_s = time.perf_counter() - start
    if not all(np.array_equal(item.ravel(), back.ravel()) for item, back in zip(codes, decoded, strict=True)):
        raise JobError(f"{container} did not restore the codes of {name}; this is a bug in this program: report it")
    num_codes, num_bytes = sum(item.size for item in codes), sum(map(coder.size, codes))
    return ContainerResult(
        codes=name,
        container=container,
        ratio=num_codes / num_bytes,
        bits_per_code=8 * num_bytes / num_codes,
        encode_mb_per_s=num_codes / encoded_s / 1e6,
        decode_mb_per_s=num_codes / decoded_s / 1e6,
    )
