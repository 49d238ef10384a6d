import numpy as np
import pytest
import torch
from skimage import data

from experiments.image_quality import MS_SSIM_SIDE, SSIM_SIDE, image_quality, lpips_weights


def noisy_photo(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    photo = data.astronaut()[:side, :side].transpose(2, 0, 1)
    noise = np.random.default_rng(0).integers(-9, 10, photo.shape)
    return torch.from_numpy(photo.copy()), torch.from_numpy((photo + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(autouse=True)
def no_downloads(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


def test_ms_ssim_follows_its_formula():
    """The formula is eq. 7 of Wang, Simoncelli and Bovik 2003, computed from parts of scikit-image's SSIM."""
    from scipy.ndimage import gaussian_filter, uniform_filter

    source, decoded = (image[:1] for image in noisy_photo(192))
    weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]
    x, y = source[0].numpy().astype(float), decoded[0].numpy().astype(float)
    product = 1.0
    for scale, weight in enumerate(weights):
        mean_x, mean_y = (gaussian_filter(image, 1.5, truncate=3.5) for image in (x, y))
        spread_x, spread_y, both = (
            gaussian_filter(a * b, 1.5, truncate=3.5) - m
            for a, b, m in ((x, x, mean_x**2), (y, y, mean_y**2), (x, y, mean_x * mean_y))
        )
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        contrast = (2 * both + c2) / (spread_x + spread_y + c2)
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        inner = (slice(5, -5), slice(5, -5))
        product *= ((luminance * contrast if scale == 4 else contrast)[inner].mean()) ** weight
        x, y = (uniform_filter(image, 2)[1::2, 1::2] for image in (x, y))
    assert image_quality(source, decoded)["ms_ssim"] == pytest.approx(product, abs=2e-4)


def test_measures_are_none_for_images_that_are_too_small():
    for side in (SSIM_SIDE - 1, SSIM_SIDE, MS_SSIM_SIDE - 1, MS_SSIM_SIDE):
        quality = image_quality(*noisy_photo(side))
        assert (quality["ssim"] is None) == (side < SSIM_SIDE)
        assert (quality["ms_ssim"] is None) == (side < MS_SSIM_SIDE)
        assert 30 < quality["psnr_db"] < 36


def test_lpips_is_none_without_weights():
    assert lpips_weights() is None
    assert image_quality(*noisy_photo(64))["lpips"] is None


@pytest.mark.slow
def test_lpips_with_weights_in_the_download_folder(tmp_path):
    """AlexNet has random weights: the test checks that the file is used, and nothing is downloaded."""
    from torchvision.models import alexnet

    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), folder / "alexnet-owt-7be5be79.pth")
    source, decoded = noisy_photo(64)
    assert lpips_weights() is not None
    assert image_quality(source, source)["lpips"] == pytest.approx(0, abs=1e-6)
    assert image_quality(source, decoded)["lpips"] > 0
