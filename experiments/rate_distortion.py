"""How well a codec keeps images, and in how many bits: `cdl codec eval`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from walloc_cdl.codec import Codec, to_bytes
from walloc_cdl.errors import JobError
from walloc_cdl.latents.archive import archive_to_bytes, container


@dataclass(frozen=True)
class RateDistortion:
    """Means over images; quality is that of the clamped 8-bit output, rate that of whole archive files."""

    num_images: int
    psnr_db: float
    bpp: float
    """Archive bits for each pixel of the source."""
    ssim: float
    """Structural similarity (Wang et al. 2004): Gaussian window, σ = 1.5, mean over channels."""
    compression_ratio: float
    """Bytes of the uncompressed 8-bit source over bytes of the archive, all images together."""
    container: str

    def to_json(self) -> dict[str, float | int | str]:
        """Plain values."""
        return asdict(self)


def measure_rate_distortion(
    codec: Codec, images: Iterable[torch.Tensor], *, on_signal: Callable[[], object] | None = None
) -> RateDistortion:
    """Encode, archive and decode uint8 images (C, H, W) with sides on the codec's stride, one at a time.

    `on_signal` is called after each. Raises `JobError` when there is no image, `CallError` for one
    the codec does not take.
    """
    psnrs, rates, similarities = [], [], []
    source_bytes = archive_bytes = 0
    for image in images:
        codes = codec.encode(image[None])
        size = len(archive_to_bytes(codes[0].cpu().numpy()))
        source = image.permute(1, 2, 0).numpy()
        decoded = to_bytes(codec.decode(codes))[0].permute(1, 2, 0).numpy()
        psnrs.append(peak_signal_noise_ratio(source, decoded, data_range=255))
        similarities.append(
            structural_similarity(
                source, decoded, channel_axis=2, data_range=255, gaussian_weights=True, use_sample_covariance=False
            )
        )
        rates.append(8 * size / (image.shape[1] * image.shape[2]))
        source_bytes, archive_bytes = source_bytes + image.numel(), archive_bytes + size
        if on_signal:
            on_signal()
    if not psnrs:
        raise JobError("no image to measure on; name a folder with images at least as large as the codec's stride")
    return RateDistortion(
        num_images=len(psnrs),
        psnr_db=float(np.mean(psnrs)),
        bpp=float(np.mean(rates)),
        ssim=float(np.mean(similarities)),
        compression_ratio=source_bytes / archive_bytes,
        container=container(codec.spec.latent_channels),
    )
