"""`cdl codec eval` for images: rate and distortion of a codec."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from experiments.image_quality import METRICS, image_quality
from walloc_cdl.codec import Codec, to_bytes
from walloc_cdl.errors import JobError
from walloc_cdl.latents.archive import archive_to_bytes, default_container, find_container, read_info


@dataclass(frozen=True)
class RateDistortion:
    """Means over images: quality of the clamped 8-bit output, rate of whole archive files."""

    num_images: int
    psnr_db: float
    """Infinite if nothing is lost."""
    bpp: float
    """Bits of the archive file, including metadata, per pixel of the source."""
    ssim: float | None
    """See `experiments.image_quality`; None if no image is large enough."""
    ms_ssim: float | None
    lpips: float | None
    """None if no image is large enough, or if the network's weights are not on this machine."""
    compression_ratio: float
    """Bytes of the uncompressed 8-bit source over bytes of the files, for all images together."""
    metadata_bytes: float
    """Mean bytes of the metadata in a file."""
    container: str

    def to_json(self) -> dict[str, float | int | str | None]:
        """Returns plain values for JSON, with None for an infinite PSNR."""
        return asdict(self) | {"psnr_db": self.psnr_db if math.isfinite(self.psnr_db) else None}


def measure_rate_distortion(
    codec: Codec,
    images: Iterable[torch.Tensor],
    *,
    container: str | None = None,
    on_signal: Callable[[], object] | None = None,
) -> RateDistortion:
    """Encode, archive and decode uint8 images (C, H, W), with sides divisible by the codec's stride, one at a time.

    `container` defaults to `default_container`. `on_signal` is called after each image.
    Raises `JobError` if there is no image, `CallError` for an image that the codec does not take.
    """
    spec = codec.spec
    container_format = find_container(container) if container else default_container(spec.kind)
    qualities: list[dict[str, float | None]] = []
    rates, metadata_bytes = [], []
    source_bytes = archive_bytes = 0
    for image in images:
        codes = codec.encode(image[None])
        shape = tuple(image.shape)
        data = archive_to_bytes(
            codes[0].cpu().numpy(), spec, signal_shape=shape, container=container_format.name, codec=codec.name
        )
        qualities.append(image_quality(image, to_bytes(codec.decode(codes))[0].cpu()))
        rates.append(8 * len(data) / (image.shape[1] * image.shape[2]))
        metadata_bytes.append(len(info.to_text()) if (info := read_info(data)) else 0)
        source_bytes, archive_bytes = source_bytes + image.numel(), archive_bytes + len(data)
        if on_signal:
            on_signal()
    if not qualities:
        raise JobError("no image to measure on; name a folder with images at least as large as the codec's stride")
    means: dict[str, Any] = {name: _mean(quality[name] for quality in qualities) for name in METRICS}
    return RateDistortion(
        num_images=len(qualities),
        **means,
        bpp=float(np.mean(rates)),
        compression_ratio=source_bytes / archive_bytes,
        metadata_bytes=float(np.mean(metadata_bytes)),
        container=container_format.name,
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """Returns the mean of the values other than None; None if there are none."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None
