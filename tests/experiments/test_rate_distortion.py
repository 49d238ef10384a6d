import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from experiments.rate_distortion import measure_rate_distortion
from tests.support.pictures import picture
from walloc_cdl.codec import ResizeCodec, ResizeConfig, load_codec
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.latents.archive import archive_to_bytes, default_container, read_info


def images(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    pictures = [np.asarray(picture(seed, *size)).transpose(2, 0, 1) for seed, size in enumerate(sizes)]
    return [torch.from_numpy(pixels.copy()) for pixels in pictures]


def test_means_over_images_of_different_sizes():
    codec, pictures, done = load_codec("rgb-4x"), images((64, 48), (128, 64)), []
    result = measure_rate_distortion(codec, pictures, container="webp", on_signal=lambda: done.append(1))
    psnrs, similarities, sizes, extra = [], [], [], []
    for pixels in pictures:
        codes = codec.encode(pixels[None])
        decoded = np.clip(np.rint((codec.decode(codes)[0].numpy() + 0.5) * 255), 0, 255).astype(np.uint8)
        psnrs.append(10 * np.log10(255**2 / np.mean((pixels.numpy() - decoded.astype(float)) ** 2)))
        by_channel = [
            structural_similarity(x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)
            for x, y in zip(pixels.numpy(), decoded, strict=True)
        ]
        similarities.append(np.mean(by_channel))
        whole = archive_to_bytes(
            codes[0].numpy(), codec.spec, signal_shape=tuple(pixels.shape), container="webp", codec="rgb-4x"
        )
        sizes.append(len(whole))
        extra.append(len(read_info(whole).to_text()))
    areas = [64 * 48, 128 * 64]
    assert result.psnr_db == pytest.approx(np.mean(psnrs))
    assert result.ssim == pytest.approx(np.mean(similarities))
    assert result.bpp == pytest.approx(np.mean([8 * size / area for size, area in zip(sizes, areas, strict=True)]))
    assert result.compression_ratio == pytest.approx(3 * sum(areas) / sum(sizes))
    assert result.metadata_bytes == pytest.approx(np.mean(extra))
    assert (result.num_images, len(done), result.container) == (2, 2, "webp")
    assert (result.ms_ssim, result.lpips) == (None, None)  # both images are too small


def test_the_default_container_is_the_one_of_archives():
    result = measure_rate_distortion(load_codec("gray-16x"), [images((64, 64))[0][:1]])
    assert result.container == default_container("image").name


def test_ssim_is_averaged_over_images_large_enough():
    codec = load_codec("rgb-16x")
    alone = measure_rate_distortion(codec, images((64, 48)))
    assert measure_rate_distortion(codec, images((64, 48), (8, 8))).ssim == pytest.approx(alone.ssim)
    assert measure_rate_distortion(codec, images((8, 8))).ssim is None


def test_a_lossless_codec_has_infinite_psnr_and_null_in_json():
    result = measure_rate_distortion(ResizeCodec(ResizeConfig(channels=3, factor=1)), images((64, 48)))
    assert result.psnr_db == float("inf")
    assert result.to_json()["psnr_db"] is None
    assert result.ssim == pytest.approx(1)


def test_resolution_reduction_is_measured_the_same_way():
    result = measure_rate_distortion(ResizeCodec(ResizeConfig(channels=3, factor=4)), images((64, 64)))
    assert 10 < result.psnr_db < 60


def test_missing_and_invalid_images_are_refused():
    with pytest.raises(JobError, match="no image to measure on"):
        measure_rate_distortion(load_codec("rgb-16x"), [])
    with pytest.raises(CallError, match="not a multiple of the stride 8"):
        measure_rate_distortion(load_codec("rgb-16x"), images((60, 64)))
