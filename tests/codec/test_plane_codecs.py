"""Codecs with bit planes: fits, prefixes, files, compiled encoders."""

import copy

import numpy as np
import pytest
import torch

from tests.support.planes import plane_codec, smooth_images
from walloc_cdl.codec import load_codec
from walloc_cdl.codec.base import to_bytes
from walloc_cdl.codec.fit.levels import fit_levels
from walloc_cdl.codec.fit.plane_codec import PlaneFitConfig, fit_plane_codec
from walloc_cdl.codec.io.folder import codec_from_files
from walloc_cdl.errors import CallError, DamagedError, JobError
from walloc_cdl.planes.rows import pack_rows, row_bytes
from walloc_cdl.spec import count_planes


@pytest.fixture(scope="module")
def codec():
    return plane_codec()


def psnr(codec, images):
    decoded = to_bytes(codec.decode(codec.encode(images))).float()
    return float(-10 * torch.log10(((decoded - images.float()) / 255).square().mean()))


def test_more_planes_are_better_and_near_what_the_fit_expects(codec):
    images = torch.stack(smooth_images(seed=1))
    expected = codec.config.fit["psnr_db"]
    found = {count: psnr(codec.with_planes(count), images) for count in (1, 4, 8, 16, 32, 48)}
    assert list(found.values()) == sorted(found.values())
    for count, value in found.items():
        assert value == pytest.approx(expected[count], abs=1.0)


def test_codes_of_a_prefix_are_the_upper_bits(codec):
    images = torch.stack(smooth_images(seed=1, count=2))
    codes = codec.encode(images)
    all_bits = count_planes(codec.planes)[1]
    for count in (1, 7, 30):
        part = codec.with_planes(count)
        bits = count_planes(part.planes)[1]
        assert part.spec.channel_bits == bits
        shifts = torch.tensor([whole - kept for whole, kept in zip(all_bits, bits, strict=False)])
        expected = codes[:, : len(bits)].int() >> shifts.reshape(1, -1, 1, 1)
        torch.testing.assert_close(part.encode(images), expected.to(torch.uint8))


def test_a_prefix_is_the_same_codec(codec):
    part = codec.with_planes(5)
    assert part.spec.codec_id == codec.spec.codec_id
    assert part.decoder_id() == codec.decoder_id()
    assert part.spec == codec.spec.with_planes(5)
    assert part.encoder[0].weight is codec.encoder[0].weight
    assert len(codec.planes) == 48
    assert "in 5 bit planes, 0.312 bits a pixel" in repr(part)


def test_the_compiled_encoder_gives_the_codes_of_the_plain_path(codec):
    images = torch.stack(smooth_images(seed=2))
    for part in (codec, codec.with_planes(9)):
        compiled, plain = part.encode(images), part._quantize(part.latents(images))
        assert (compiled != plain).float().mean() < 1e-4
        np.testing.assert_array_equal(part.detached_encoder().encode(images.numpy()), compiled.numpy())


def test_rows_are_the_packed_codes(codec):
    images = torch.stack(smooth_images(seed=2, count=3))
    for part in (codec, codec.with_planes(9), copy.deepcopy(codec).double()):
        rows = part.encode_rows(images)
        assert torch.equal(rows, torch.from_numpy(pack_rows(part.encode(images).numpy(), part.planes)))
        assert rows.shape == (3, row_bytes(part.spec, (16, 16)))
    assert codec.encode_rows(images[:0]).shape == (0, 48 * 32)
    with pytest.raises(CallError, match="codec rgb-16x has no bit planes: its codes are stored as bytes; call encode"):
        load_codec("rgb-16x").encode_rows(images)


def test_the_compiled_encoder_follows_the_tables(codec):
    images = torch.stack(smooth_images(count=1))
    changed = copy.deepcopy(codec)
    before = changed.encode(images)
    changed.encoder[1].thresholds.add_(0.01)
    assert not torch.equal(changed.encode(images), before)
    assert changed.spec.codec_id != codec.spec.codec_id


def test_files_return_the_codec(codec):
    read = codec_from_files(codec.files(), origin="folder")
    images = torch.stack(smooth_images(count=2, seed=3))
    assert read.spec == codec.spec
    torch.testing.assert_close(read.decode(read.encode(images)), codec.decode(codec.encode(images)))


def test_levels_out_of_order_are_refused(codec):
    changed = copy.deepcopy(codec)
    changed.encoder[1].values.neg_()
    with pytest.raises(DamagedError, match="has levels of channel 0 that are not in ascending"):
        codec_from_files(changed.files(), origin="folder")


def test_gradients_pass_through_the_quantizer(codec):
    signal = (torch.stack(smooth_images(count=1)).float() / 255 - 0.5).requires_grad_()
    codec(signal).square().sum().backward()
    assert signal.grad.abs().sum() > 0
    torch.testing.assert_close(codec(signal.detach()), codec.decode(codec.encode(signal.detach())), atol=1e-4, rtol=0)


@pytest.mark.parametrize("channels", [1, 2])
def test_audio(channels):
    codec = plane_codec(channels, kind="audio", levels=4, max_rate=2.0, sample_rate=8000)
    signal = torch.sin(torch.arange(2048) / 30).expand(channels, -1)[None] / 4
    errors = [(part.decode(part.encode(signal)) - signal).square().mean() for part in map(codec.with_planes, (4, 32))]
    assert errors[1] < errors[0] / 2


def test_the_seed_decides_and_the_fit_is_deterministic():
    config = PlaneFitConfig(levels=2, max_rate=1.0)
    first, second = (fit_plane_codec(smooth_images(), config)[0] for _ in range(2))
    assert first.files() == second.files()


def test_levels_are_optimal_for_a_known_density():
    """Lloyd and Max: the four levels of a standard normal density are ±0.4528 and ±1.510."""
    samples = np.random.default_rng(0).standard_normal(200_000)
    fitted = fit_levels(1, lambda number: samples.copy(), 8)
    assert fitted.planes == (0,) * 8
    np.testing.assert_allclose(fitted.tables.channel_values(0, 2), [-1.510, -0.4528, 0.4528, 1.510], atol=0.02)
    assert fitted.errors[2] == pytest.approx(0.1175, abs=0.002)
    assert fitted.errors[1] == pytest.approx(1 - 2 / np.pi, abs=0.005)


def test_signals_that_do_not_vary_have_nothing_to_quantize():
    flat = [torch.full((3, 64, 64), 7, dtype=torch.uint8)] * 3
    with pytest.raises(JobError, match="do not vary"):
        fit_plane_codec(flat, PlaneFitConfig(levels=2))


@pytest.mark.parametrize("rate", [0.0, 25.0, float("nan"), 0.001])
def test_rates_out_of_range_are_refused(rate):
    with pytest.raises(CallError, match="a largest rate of"):
        PlaneFitConfig(max_rate=rate)


def test_stages_and_networks_have_companded_codes(codec):
    from walloc_cdl.codec.families.walloc_2d import WallocConfig2D
    from walloc_cdl.codec.families.walloc_residual import ResidualConfig2D

    with pytest.raises(CallError, match="stages have companded codes"):
        ResidualConfig2D(latent_channels=1, bits=2, planes=(0, 0))
    with pytest.raises(CallError, match="they need a linear one"):
        WallocConfig2D(latent_channels=1, bits=2, planes=(0, 0), encoder="full", encoder_width=32)
