import numpy as np
import pytest
import torch

from experiments import signal_distortion
from experiments.signal_distortion import decibels, entropy_bits, measure_arrays, measure_audio
from walloc_cdl.codec import ResizeCodec, ResizeConfig, load_codec
from walloc_cdl.errors import JobError
from walloc_cdl.latents.archive import archive_to_bytes


def test_arrays_in_decibels_of_a_range_of_one_and_archive_bits():
    codec = ResizeCodec(ResizeConfig(channels=5, factor=2, name="bands"))
    arrays = [torch.rand(5, 8, 12) - 0.5, torch.rand(5, 16, 8) - 0.5]
    seen = []
    result = measure_arrays(codec, arrays, container="png", on_signal=lambda: seen.append(1))
    errors = [(codec.decode(codec.encode(one[None]))[0] - one).square().mean() for one in arrays]
    assert result.psnr_db == pytest.approx(float(np.mean([-10 * np.log10(float(error)) for error in errors])), abs=1e-3)
    files = [
        archive_to_bytes(
            codec.encode(one[None])[0].numpy(),
            codec.spec,
            signal_shape=tuple(one.shape),
            container="png",
            codec="bands",
        )
        for one in arrays
    ]
    sizes = [8 * len(data) / one[0].numel() for data, one in zip(files, arrays, strict=True)]
    assert result.container == "png"
    assert result.bpp == pytest.approx(np.mean(sizes))
    assert result.bits_per_value == pytest.approx(np.mean(sizes) / 5)
    assert (result.num_arrays, len(seen), result.reduction) == (2, 2, 4)


def test_silence_is_left_out_of_the_snr_but_counts_for_the_rate():
    codec = load_codec("mono-16x")
    tone = 0.3 * torch.sin(torch.arange(4096) * 0.05)[None]
    silent = torch.zeros(1, 4096)
    alone, both = measure_audio(codec, [tone]), measure_audio(codec, [tone, silent])
    assert both.snr_db == alone.snr_db
    assert alone.snr_db == pytest.approx(alone.psnr_db + 10 * np.log10(float(tone.square().mean())), abs=1e-6)
    assert both.num_clips == 2
    assert both.bits_per_sample < alone.bits_per_sample
    assert alone.reduction == 16


def test_long_clips_are_measured_in_pieces(monkeypatch):
    codec = load_codec("mono-16x")
    clip = 0.2 * torch.sin(torch.arange(5120) * 0.05)[None]
    pieces = [measure_audio(codec, [piece]) for piece in clip.split(2048, dim=1)]
    monkeypatch.setattr(signal_distortion, "PIECE_SAMPLES", 2048 + 255)  # rounded down to the stride of 256
    whole = measure_audio(codec, [clip])
    errors = [10 ** (-piece.psnr_db / 10) * share for piece, share in zip(pieces, (0.4, 0.4, 0.2), strict=True)]
    assert whole.psnr_db == pytest.approx(-10 * np.log10(sum(errors)), abs=1e-6)
    assert (whole.num_clips, whole.reduction) == (1, 16)


def test_entropy_and_decibels():
    histogram = np.zeros((2, 256), np.int64)
    histogram[0, 3] = 8
    histogram[1, :4] = 2
    assert entropy_bits(histogram) == pytest.approx(16)
    assert decibels(1.0, 0.0) == 150
    assert decibels(1.0, 0.01) == pytest.approx(20)


def test_nothing_to_measure():
    with pytest.raises(JobError, match="no clip to measure on"):
        measure_audio(load_codec("mono-16x"), [])
    with pytest.raises(JobError, match="all clips are silent"):
        measure_audio(load_codec("mono-16x"), [torch.zeros(1, 512)])
    with pytest.raises(JobError, match="no array to measure on"):
        measure_arrays(load_codec("gray-16x"), [])
