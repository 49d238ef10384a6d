"""Budgets in bytes and bits a pixel become bit planes; the shipped codec is that of the source's kind and channels."""

import numpy as np
import pytest

from datasets_prep import IterableSource, PrepareConfig, open_source, prepare
from datasets_prep.encode.budget import SHIPPED, Budget, shipped_codec
from datasets_prep.job.choose_preparation import choose_preparation
from datasets_prep.job.plan_job import plan_job
from tests.support.pictures import encoded, picture
from tests.support.planes import plane_codec
from tests.support.sounds import write_sound
from walloc_cdl.codec import load_codec
from walloc_cdl.errors import CallError
from walloc_cdl.latents import load_manifest, verify


@pytest.fixture(scope="module")
def codec():
    return plane_codec(levels=2, max_rate=3.0)  # stride 4


@pytest.fixture
def source(make_folder):
    return open_source(str(make_folder()))


def budget(source, codec, **settings):
    """The number of planes and the messages."""
    config = PrepareConfig(**settings)
    fitting, notes = Budget(config.bytes, config.bpp).fit(codec, choose_preparation(source, codec, config))
    return fitting.spec.num_planes, notes


def test_whole_planes_that_fit(source, codec):
    count = codec.spec.num_planes
    assert budget(source, codec, size=32) == (count, [])  # 8 × 8 positions, 8 bytes a plane
    assert budget(source, codec, size=32, bytes=80) == (10, [])
    rounded = budget(source, codec, size=32, bytes=87)
    assert rounded == (10, ["87 bytes are rounded down to 10 whole bit planes, 80 bytes"])
    assert budget(source, codec, size=32, bpp=1.0) == (16, [])
    rounded = budget(source, codec, size=32, bpp=0.7)
    assert rounded == (11, ["0.7 bits a pixel are rounded down to 11 whole bit planes, 0.6875"])
    assert budget(source, codec, bpp=0.5, geometry="ragged") == (8, [])
    assert budget(source, codec, size=32, bytes=80, views="flip") == (10, [])  # each view


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 32, "bytes": 7}, "7 bytes a sample; these latents take 8 to "),
        ({"size": 32, "bytes": 10**6}, r"1,000,000 bytes a sample; these latents take 8 to \d+, 8 a plane"),
        ({"bpp": 0.01}, "0.01 bits a pixel; these latents take 0.0625 to "),
        ({"bpp": 99.0}, "99 bits a pixel; these latents take 0.0625 to "),
        (
            {"bytes": 80, "geometry": "ragged"},
            "bytes is 80 with geometry ragged, where samples differ in size; give the budget in bits a pixel",
        ),
    ],
)
def test_budgets_that_do_not_apply(source, codec, settings, message):
    with pytest.raises(CallError, match=message):
        plan_job(source, codec, PrepareConfig(**settings))


def test_byte_codes_have_one_size(source, rgb_codec):
    with pytest.raises(CallError, match="192 bytes a sample of codes that are stored as bytes, which have one size"):
        plan_job(source, rgb_codec, PrepareConfig(size=32, bytes=192))
    with pytest.raises(CallError, match="1 bits a pixel of codes that are stored as bytes"):
        plan_job(source, rgb_codec, PrepareConfig(size=32, bpp=1.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bytes": 0}, "bytes is 0; it must be at least 1"),
        ({"bpp": 0.0}, "bpp is 0; expected bits a pixel, or a time step of audio, above 0, such as 1.5"),
        ({"bpp": float("nan")}, "bpp is nan"),
        ({"bytes": 80, "bpp": 1.0}, "bytes is 80 and bpp is 1; they are one budget: omit one of them"),
    ],
)
def test_invalid_settings(settings, message):
    with pytest.raises(CallError, match=message):
        PrepareConfig(**settings)


def test_sound_has_a_budget_in_bits_a_time_step(tmp_path):
    for number in range(2):
        write_sound(tmp_path / "clips" / f"{number}.wav", np.random.default_rng(number).normal(0, 0.1, (900, 1)), 8000)
    source = open_source(f"audiofolder:{tmp_path / 'clips'}")
    codec = plane_codec(1, kind="audio", levels=3, max_rate=4.0, sample_rate=8000)
    assert budget(source, codec, bpp=1.0, segment_s=0.1) == (8, [])
    assert budget(source, codec, bpp=1.0, geometry="ragged") == (8, [])
    with pytest.raises(CallError, match="bytes is 99 with sound; give the budget in bits a time step instead, as bpp"):
        budget(source, codec, bytes=99, segment_s=0.1)


def test_the_shipped_codec_of_a_source(make_folder, tmp_path):
    assert shipped_codec(open_source(str(make_folder("color")))).spec == load_codec("rgb").spec
    assert shipped_codec(open_source(str(make_folder("gray", mode="L")))).spec == load_codec("gray").spec
    write_sound(tmp_path / "clips" / "a.wav", np.zeros((900, 1)) + 0.1, 8000)
    assert shipped_codec(open_source(f"audiofolder:{tmp_path / 'clips'}")).spec == load_codec("mono").spec
    np.save(tmp_path / "a.npy", np.ones((4, 5, 16, 16), np.uint8))
    with pytest.raises(CallError, match=r"takes image of 5 channels, as .* has \(there are rgb, gray, .*--codec own"):
        shipped_codec(open_source(f"npy:{tmp_path / 'a.npy'}"))
    assert set(SHIPPED.values()) == {"rgb", "gray", "mono", "stereo"}


def test_a_data_set_within_a_budget(source, codec, tmp_path):
    out = tmp_path / "out"
    config = PrepareConfig(size=32, bytes=87, workers=0)
    notes = []
    prepare(source, codec, out, config, progress=lambda state: notes.append(state.note))
    assert "87 bytes are rounded down to 10 whole bit planes, 80 bytes" in notes
    assert load_manifest(out).spec == codec.spec.with_planes(10)
    assert verify(out, full=True).problems == []
    again = []
    prepare(source, codec, out, PrepareConfig(size=32, bpp=0.625, workers=0), progress=lambda s: again.append(s.note))
    assert again == [f"{out} is already finished; nothing to do"]
    with pytest.raises(CallError, match=r"with codec\.num_planes '10', but this call has '12'"):
        prepare(source, codec, out, PrepareConfig(size=32, bytes=96, workers=0))


def test_a_stream_within_a_budget(codec, tmp_path):
    samples = [(encoded(picture(number)), number % 2) for number in range(6)]
    stream = IterableSource(samples, name="six", class_names=["cat", "dog"])
    notes = []
    config = PrepareConfig(size=32, bytes=87, workers=0)
    manifest = prepare(stream, codec, tmp_path / "out", config, progress=lambda state: notes.append(state.note))
    assert "87 bytes are rounded down to 10 whole bit planes, 80 bytes" in notes
    assert manifest.spec == codec.spec.with_planes(10)
    assert verify(tmp_path / "out", full=True).problems == []
