"""The closed-form fit: comparison with principal components by numpy, determinism, errors."""

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, pad, pixel_shuffle

from walloc_cdl.codec import ResizeCodec, ResizeConfig, to_bytes
from walloc_cdl.codec.fit import signal_pass
from walloc_cdl.codec.fit.closed_form import FitConfig, fit_codec
from walloc_cdl.codec.fit.moments import PacketMoments, signal_weights
from walloc_cdl.codec.fit.synthesis import fit_synthesis
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.kernels.packets import packet_analysis


def textures(channels, count=12, side=96, seed=0):
    """Yield random images with a spectrum like that of photographs, uint8 (C, side, side)."""
    generator = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    mixing = generator.normal(size=(channels, channels)) * 0.3 + 1
    for _ in range(count):
        spectrum = np.fft.fft2(generator.normal(size=(channels, side, side))) / (frequency + 1 / side) ** 1.2
        field = np.einsum("cd,dhw->chw", mixing, np.fft.ifft2(spectrum).real)
        field = (field - field.mean()) / field.std() * 40 + 128
        yield torch.from_numpy(np.clip(field, 0, 255).astype(np.uint8))


def test_moments_equal_numpy_over_all_positions():
    images = list(textures(2))
    moments = PacketMoments("image", 2, 2)
    for image in images:
        moments.update(image)
    rows = torch.cat(
        [packet_analysis(image[None].double() / 255 - 0.5, 2)[0].flatten(1) for image in images], 1
    ).numpy()
    np.testing.assert_allclose(moments.mean(), rows.mean(1), atol=1e-5)
    np.testing.assert_allclose(moments.covariance(), np.cov(rows, bias=True), atol=1e-5)


def test_the_encoder_spans_the_leading_principal_components_of_the_pixels():
    images = list(textures(3))
    codec, report = fit_codec(images, FitConfig(channels=3, reduction=16, levels=2, gain=16.0))
    rows = torch.cat(
        [packet_analysis(image[None].double() / 255 - 0.5, 2)[0].flatten(1) for image in images], 1
    ).numpy()
    weights = signal_weights("image", 3, 2).numpy()
    _, values, vectors = np.linalg.svd((rows - rows.mean(1, keepdims=True)).T * weights, full_matrices=False)
    ours = codec.encoder[0].weight[:, :, 0, 0].detach().double().numpy() / weights / 16
    overlap = np.linalg.svd(ours @ vectors[:3].T)[1]
    np.testing.assert_allclose(overlap, 1, atol=1e-3)
    assert report.kept_energy == pytest.approx((values[:3] ** 2).sum() / (values**2).sum(), abs=1e-4)


def test_the_same_images_give_the_same_codec_and_the_gain_lies_on_the_curve():
    config = FitConfig(channels=1, reduction=16, storage="archive")
    first, report = fit_codec(textures(1), config)
    second, _ = fit_codec(textures(1), config)
    assert first.files() == second.files()
    merits = [point.psnr_db - 1.0 * point.bpp for point in report.curve]
    assert report.chosen == report.curve[int(np.argmax(merits))]
    assert [point.bpp for point in report.curve] == sorted(point.bpp for point in report.curve)
    assert first.config.fit["gain"] == report.chosen.gain


def test_for_raw_bytes_the_gain_is_the_one_with_the_least_error():
    images = list(textures(1))
    raw, report = fit_codec(images, FitConfig(channels=1, reduction=16))
    archive, of_archive = fit_codec(images, FitConfig(channels=1, reduction=16, storage="archive"))
    assert report.chosen == max(report.curve, key=lambda point: point.psnr_db)
    assert report.chosen != report.curve[-1]  # beyond it, companding saturates
    assert report.chosen.gain > 2 * of_archive.chosen.gain
    held_out = torch.stack(list(textures(1, seed=1)))

    def error(codec):
        return (to_bytes(codec.decode(codec.encode(held_out))).double() - held_out.double()).square().mean()

    assert error(raw) < error(archive)


@pytest.mark.parametrize(("channels", "reduction", "expected"), [(1, 16, 4), (3, 4, 48), (8, 16, 32)])
def test_any_number_of_channels_is_fitted(channels, reduction, expected):
    codec, report = fit_codec(textures(channels, count=6, side=128), FitConfig(channels=channels, reduction=reduction))
    assert codec.spec.latent_channels == expected
    assert 0 < report.kept_energy <= 1
    held_out = next(iter(textures(channels, count=1, side=128)))[None]
    error = (to_bytes(codec.decode(codec.encode(held_out))).double() - held_out.double()).square().mean()
    assert error < 1.5 * (1 - report.kept_energy) * held_out.double().var()


def test_invalid_fits_are_refused():
    with pytest.raises(CallError, match=r"a reduction of 7 with 3 channels and 3 levels gives 27\.4 latent channels"):
        fit_codec(textures(3), FitConfig(reduction=7))
    with pytest.raises(CallError, match="an image of 1 channels; this codec is fitted to 3"):
        fit_codec(textures(1), FitConfig(channels=3))
    with pytest.raises(JobError, match="1 usable signals with 4 positions at stride 8 are too few for 64 coefficients"):
        fit_codec([torch.zeros(1, 16, 16, dtype=torch.uint8)], FitConfig(channels=1))


def synthesized(codec, layer, pixels):
    values = codec.values(codec.encode(pixels))
    out = conv2d(pad(values, (2,) * 4, mode="circular"), torch.from_numpy(layer.weight), torch.from_numpy(layer.bias))
    return pixel_shuffle(out, layer.block)


def test_synthesis_comes_close_to_the_whole_linear_decoder_at_every_block_size():
    images = torch.stack(list(textures(1, count=40, side=128)))
    codec, _ = fit_codec(images[:24], FitConfig(channels=1, reduction=4))
    bank = fit_synthesis(codec, images[:24].split(8))
    assert sorted(bank) == list(range(1, 9))
    test = images[24:]
    pixels = test.float() / 255 - 0.5
    whole = (codec.decode(codec.encode(test)) - pixels).square().mean()
    ours = (synthesized(codec, bank[8], test) - pixels).square().mean()
    assert bank[8].block == 8
    assert ours < 1.1 * whole
    for block in (2, 4):
        target = torch.nn.functional.interpolate(pixels, size=[16 * block] * 2, mode="bicubic", antialias=True)
        error = (synthesized(codec, bank[block], test) - target).square().mean()
        assert error < 0.2 * target.var(), block
        np.testing.assert_allclose(bank[block].pixel_mean, target.mean(), atol=0.05)


def test_for_pixels_on_their_own_grid_the_synthesis_is_the_identity():
    images = torch.stack(list(textures(3, count=8, side=64)))
    codec = ResizeCodec(ResizeConfig(channels=3, factor=4))
    layer = fit_synthesis(codec, images.split(4))[1]
    stored = codec.encode(images)
    difference = synthesized(codec, layer, images) - (stored.float() / 255 - 0.5)
    assert difference.abs().max() < 0.01
    with pytest.raises(JobError, match="no sample to fit the linear synthesis to"):
        fit_synthesis(codec, [])


def test_a_fit_reports_the_threads_that_were_fastest_at_its_beginning(monkeypatch):
    asked = []

    def choose(work, num_calls):
        asked.append(num_calls)
        work()
        return 2

    monkeypatch.setattr(signal_pass, "choose_threads", choose)
    config = FitConfig(channels=1, reduction=4, gain=16.0, num_curve_signals=3)
    codec, report = fit_codec(textures(1), config, num_signals=500)
    assert (report.threads, asked) == (2, [503])
    assert torch.get_num_threads() == 1
    fixed, report = fit_codec(textures(1), config, num_signals=500, threads=1)
    assert (report.threads, asked) == (1, [503])
    assert codec.encoder_id() == fixed.encoder_id()  # the trial has left no trace
    with pytest.raises(CallError, match="threads is 0; it must be at least 1"):
        fit_codec(textures(1), config, threads=0)
