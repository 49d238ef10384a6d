"""Measures of the similarity of two 8-bit images, computed by maintained libraries."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

METRICS = ("psnr_db", "ssim", "ms_ssim", "lpips")

SSIM_SIDE = 11
"""Side in pixels of the window of SSIM (Wang et al. 2004), and of the smallest image that it is defined for."""

MS_SSIM_SIDE = 176
"""Smallest side in pixels for MS-SSIM (Wang et al. 2003), which halves an image four times; torchmetrics requires a
16th of the side above 10."""

LPIPS_SIDE = 64
"""Smallest side in pixels for LPIPS: the five stages of AlexNet need about as many."""

LPIPS_WEIGHTS = "alexnet-owt-7be5be79.pth"
"""Name of torchvision's file of AlexNet's ImageNet weights in torch's download folder."""


def image_quality(source: Tensor, decoded: Tensor) -> dict[str, float | None]:
    """Compute `METRICS` for two images uint8 (C, H, W); None if an image is too small or the weights are absent.

    PSNR is in dB, and infinite for equal images. SSIM has a Gaussian window, σ = 1.5, and is averaged over channels.
    LPIPS (Zhang et al. 2018) uses AlexNet; smaller is better, and gray images become three equal channels.
    """
    side = min(source.shape[1:])
    return {
        "psnr_db": _psnr_db(source, decoded),
        "ssim": _ssim(source, decoded) if side >= SSIM_SIDE else None,
        "ms_ssim": _ms_ssim(source, decoded) if side >= MS_SSIM_SIDE else None,
        "lpips": _lpips(source, decoded) if side >= LPIPS_SIDE and lpips_weights() else None,
    }


def lpips_weights() -> Path | None:
    """Returns AlexNet's weights in torch's download folder, or None if they are absent; downloads nothing."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_WEIGHTS
    return path if path.is_file() else None


def _psnr_db(source: Tensor, decoded: Tensor) -> float:
    error = float(np.mean((source.numpy().astype(np.float64) - decoded.numpy()) ** 2))
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")


def _ssim(source: Tensor, decoded: Tensor) -> float:
    from skimage.metrics import structural_similarity

    options = {"channel_axis": 0, "data_range": 255, "gaussian_weights": True, "use_sample_covariance": False}
    return float(structural_similarity(source.numpy(), decoded.numpy(), **options))


def _ms_ssim(source: Tensor, decoded: Tensor) -> float:
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    pair = (decoded[None].float(), source[None].float())  # float64 is 15 times slower, and equal to 7 digits
    return float(multiscale_structural_similarity_index_measure(*pair, data_range=255.0))


def _lpips(source: Tensor, decoded: Tensor) -> float:
    pair = (image[None].expand(-1, 3, -1, -1).float() / 127.5 - 1 for image in (decoded, source))
    with torch.inference_mode():
        return float(_lpips_network()(*pair))


@lru_cache(maxsize=1)
def _lpips_network() -> torch.nn.Module:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision warns about an argument that torchmetrics passes
        return LearnedPerceptualImagePatchSimilarity(net_type="alex").eval()
