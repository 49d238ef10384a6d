"""Codecs are fitted to what `prepare` hands to the encoder."""

import numpy as np
import pytest
import torch

from datasets_prep.codec_fit.fit_inputs import FitInputs, parse_sizes, sizes_text
from datasets_prep.codec_fit.fit_source import configure_fit, fit_to_source
from datasets_prep.decode.images import ImagePreparation
from datasets_prep.job.config import PrepareConfig
from datasets_prep.sources import open_source
from tests.support.pictures import picture
from walloc_cdl.codec.fit.closed_form import FitConfig, fit_codec
from walloc_cdl.codec.fit.plane_codec import PlaneFitConfig, fit_plane_codec
from walloc_cdl.errors import CallError, JobError

SMALL = {"levels": 1, "components": 3, "gain": 20.0}


@pytest.fixture
def source(make_folder):
    return open_source(str(make_folder(each=4)))


def prepared(source, size, **settings):
    """The train split's pixels as `prepare` makes them, uint8 (C, S, S)."""
    preparation = ImagePreparation(3, size=size, **settings)
    return [torch.from_numpy(preparation.load(source.read("train", index))) for index in range(8)]


def native(source):
    return [torch.from_numpy(ImagePreparation(3).load_native(source.read("train", index), 2)) for index in range(8)]


@pytest.mark.parametrize(
    ("inputs", "signals"),
    [
        (FitInputs(), lambda source: prepared(source, 256)),
        (FitInputs((32,)), lambda source: prepared(source, 32)),
        (
            FitInputs((32,), {"resize": "box", "crop": "pad"}),
            lambda source: prepared(source, 32, resize="box", crop="pad"),
        ),
        (FitInputs((None,)), native),
        (
            FitInputs((16, None), {"resize": "box"}),
            lambda source: [
                x for pair in zip(prepared(source, 16, resize="box"), native(source), strict=True) for x in pair
            ],
        ),
    ],
    ids=["default", "size", "settings", "native", "several"],
)
def test_the_fit_sees_what_prepare_encodes(source, inputs, signals):
    codec, report, num_skipped = fit_to_source(source, configure_fit(source, **SMALL), inputs, threads=1)
    expected, _ = fit_codec(signals(source), FitConfig(**SMALL), threads=1)
    assert codec.encoder_id() == expected.encoder_id()
    assert (report.num_signals, num_skipped) == (8 * inputs.num_sizes, 0)
    assert codec.config.fit["sizes"] == ["native" if size is None else size for size in inputs.sizes or (256,)]


def test_bit_planes_are_fitted_to_the_same_signals(source):
    config = configure_fit(source, levels=2, planes=True, max_rate=3.0)
    codec, report, _ = fit_to_source(source, config, FitInputs((32,)), threads=1)
    expected, _ = fit_plane_codec(prepared(source, 32), PlaneFitConfig(levels=2, max_rate=3.0), threads=1)
    assert codec.encoder_id() == expected.encoder_id()
    assert codec.config.fit["sizes"] == [32]
    assert report.num_planes == codec.spec.num_planes > 0


def test_a_jobs_settings_decide(source):
    of_job = FitInputs.of_job
    assert of_job(PrepareConfig()) == FitInputs()
    config = PrepareConfig(size=64, crop="pad", icc="srgb", views="flip", workers=3)
    assert of_job(config) == FitInputs((64,), {"crop": "pad", "icc": "srgb"})
    assert of_job(PrepareConfig(geometry="ragged", icc="srgb")) == FitInputs((None,), {"icc": "srgb"})
    assert of_job(PrepareConfig(normalization="clip", segment_s=2.0)).settings["normalization"] == "clip"


def test_gray_and_color_are_converted(make_folder):
    gray = open_source(str(make_folder("gray", mode="L")))
    codec, _, _ = fit_to_source(gray, configure_fit(gray, channels=3, **SMALL), FitInputs((32,)))
    assert codec.spec.source_channels == 3
    color = open_source(str(make_folder("color")))
    codec, _, _ = fit_to_source(color, configure_fit(color, channels=1, **SMALL), FitInputs((32,)))
    assert codec.spec.source_channels == 1


def test_samples_without_any_usable_size_are_counted(make_folder):
    root = make_folder(each=4)
    for number in range(3):
        (root / "train" / "cat" / f"x{number}.png").write_bytes(b"no image")
    picture(0, 64, 2).save(root / "train" / "cat" / "y.png")  # wider than the limit of aspect
    source = open_source(str(root))
    _, report, num_skipped = fit_to_source(source, configure_fit(source, **SMALL), FitInputs((16, None)))
    assert (report.num_signals, num_skipped) == (16, 4)
    for number in range(3, 12):
        (root / "train" / "cat" / f"x{number}.png").write_bytes(b"no image")
    source = open_source(str(root))
    with pytest.raises(JobError, match="13 of 21 samples of photos could not be used"):
        fit_to_source(source, configure_fit(source, **SMALL), FitInputs((16,)))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (FitInputs((33,)), "height 33 is not a multiple of the stride 2 of codec fitted; nearest that are: 32, 34"),
        (FitInputs((None,), {"crop": "pad"}), "crop is pad, but with size native images keep their own size; omit one"),
        (FitInputs((32,), {"normalization": "clip"}), "normalization is clip, but source photos is of kind image"),
        (FitInputs((32,), {"crop": "middle"}), "unknown crop 'middle'"),
    ],
)
def test_settings_that_do_not_apply(source, inputs, message):
    with pytest.raises(CallError, match=message):
        fit_to_source(source, configure_fit(source, **SMALL), inputs)


def test_arrays_have_no_size(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 999, (4, 2, 32, 32), np.uint16))
    source = open_source(f"npy:{tmp_path / 'a.npy'}")
    with pytest.raises(CallError, match=r"size is 32,native, but source .* is of kind array; only image files are re"):
        fit_to_source(source, configure_fit(source, **SMALL), FitInputs((32, None)))


def test_sizes():
    assert parse_sizes("128, 256,native") == (128, 256, None)
    assert sizes_text((128, None)) == "128,native"
    for text in ("", "big", "-8", "128;256", "1e3"):
        with pytest.raises(CallError, match="expected pixels a side, native, or several, such as 128,256,native"):
            parse_sizes(text)
    with pytest.raises(CallError, match="size is 0; it must be at least 1"):
        parse_sizes("0")
    with pytest.raises(CallError, match="has native twice"):
        parse_sizes("native,native")
