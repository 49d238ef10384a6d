from __future__ import annotations

import os
import sys

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from datasets_prep import open_source
from datasets_prep.decode import audio
from datasets_prep.decode.audio import AudioPreparation, ClipInfo, load_clip, read_clip_info, segment_samples
from datasets_prep.decode.expansion import require_expansion
from datasets_prep.samples.stored import AudioSegment, BadSignalError
from datasets_prep.sources.signals.audiofolder import AudioFolder, SegmentedSource
from tests.support.memory import PeakMemory
from tests.support.sounds import sound, write_sound
from walloc_cdl.errors import CallError


def preparation(length=64, hop=64, channels=1, rate=8000, **settings):
    return AudioPreparation(channels, rate, length, hop, **settings)


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "caf", "au", "w64", "rf64"])
def test_16_bit_samples_are_exact(tmp_path, suffix):
    values = np.array([[-32768], [-1], [0], [1], [32767], [12345]], np.int16)
    path = write_sound(tmp_path / f"a.{suffix}", values, subtype="PCM_16")
    loaded = preparation(length=6).load(path)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded[0] * 65536, values[:, 0])


def test_24_bit_samples_are_exact(tmp_path):
    values = np.array([-(2**23), -1, 0, 1, 2**23 - 1, 54321], np.int32)
    path = write_sound(tmp_path / "a.wav", (values * 256)[:, None], subtype="PCM_24")
    np.testing.assert_array_equal(preparation(length=6).load(path)[0] * 2**24, values)


def test_float_samples_beyond_full_scale_are_clipped(tmp_path):
    values = np.array([-3, -1, -0.25, 0.5, 1, 1.5], np.float32)
    path = write_sound(tmp_path / "a.wav", values, subtype="FLOAT")
    np.testing.assert_array_equal(preparation(length=6).load(path)[0], np.clip(values, -1, 1) / 2)


def test_mono_is_repeated_and_more_channels_are_mixed_down(tmp_path):
    mono = write_sound(tmp_path / "mono.wav", sound(0, 64))
    both = preparation(channels=2).load(mono)
    np.testing.assert_array_equal(both[0], both[1])
    values = sound(1, 64, channels=4)
    four = write_sound(tmp_path / "four.wav", values)
    np.testing.assert_allclose(preparation().load(four)[0], values.mean(1) / 65536, atol=1e-7)
    with pytest.raises(BadSignalError, match="4 channels, which do not become 2"):
        preparation(channels=2).load(four)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100])
def test_resampling_is_soxr_of_the_whole_clip(tmp_path, rate):
    values = sound(2, 3001, channels=2)
    path = write_sound(tmp_path / "a.wav", values, rate)
    expected = soxr.resample(values.astype(np.float32) / 32768, rate, 16000, quality="HQ")
    info = read_clip_info(path)
    assert info.resampled_frames(16000) == len(expected)
    whole = preparation(channels=2, rate=16000).load_native(path, 1)
    np.testing.assert_array_equal(whole, np.clip(expected.T, -1, 1) / 2)
    piece = preparation(length=100, channels=2, rate=16000).load(AudioSegment(path, 700))
    np.testing.assert_array_equal(piece, whole[:, 700:800])


@given(st.integers(1, 10**6), st.sampled_from([8000, 16000, 22050, 44100, 48000]), st.integers(8000, 48000))
def test_a_resampled_length_is_the_nearest_whole_number(frames, rate, wanted):
    length = ClipInfo(frames, rate, 1, 0).resampled_frames(wanted)
    assert abs(length * rate - frames * wanted) * 2 <= rate


@given(st.integers(0, 5000), st.integers(1, 600), st.integers(1, 700))
def test_segments_are_all_that_lie_in_a_clip_and_at_least_one(clip, length, hop):
    starts = list(preparation(length, hop).starts(clip))
    assert starts[0] == 0
    assert np.all(np.diff(starts) == hop)
    assert all(start + length <= clip for start in starts) or (starts == [0] and clip < length)
    assert starts[-1] + hop + length > clip  # the next one would not


@given(st.integers(0, 5000), st.integers(1, 600), st.integers(1, 700))
def test_padded_segments_reach_the_end_of_a_clip(clip, length, hop):
    starts = list(preparation(length, hop, rest="pad").starts(clip))
    assert starts[0] == 0
    assert np.all(np.diff(starts) == hop)
    assert starts[-1] < max(clip, 1)
    assert starts[-1] + max(hop, length) >= clip
    assert len(starts) == 1 or starts[-2] + length < clip  # no segment more than needed
    assert set(preparation(length, hop).starts(clip)) <= set(starts)


def test_the_last_segment_is_filled_with_silence(tmp_path):
    path = write_sound(tmp_path / "a.wav", sound(1, 400))
    whole = preparation(length=400).load(AudioSegment(path, 0))
    piece = preparation(length=250, rest="pad").load(AudioSegment(path, 250))
    np.testing.assert_array_equal(piece[:, :150], whole[:, 250:])
    assert not piece[:, 150:].any()


@given(st.floats(0.001, 100), st.sampled_from([8000, 22050, 44100]), st.sampled_from([1, 16, 64, 256]))
def test_a_padded_segment_is_the_shortest_whole_number_of_strides_that_lasts_as_long(seconds, rate, stride):
    length = segment_samples(seconds, rate, stride, up=True)
    assert length % stride == 0
    assert length >= seconds * rate - 1e-3
    assert length - stride < seconds * rate + 1e-3


@given(st.floats(0.001, 100), st.sampled_from([8000, 22050, 44100]), st.sampled_from([1, 16, 64, 256]))
def test_a_segment_is_the_longest_whole_number_of_strides_within_its_duration(seconds, rate, stride):
    length = segment_samples(seconds, rate, stride)
    assert length % stride == 0
    assert length <= seconds * rate + 1e-3 or length == stride
    assert length + stride > seconds * rate - 1e-3


def test_a_segment_of_exactly_the_clips_duration_is_the_clip():
    assert segment_samples(0.1, 8000, 8) == 800
    assert segment_samples(5.0, 44100, 100) == 220500
    for seconds in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(CallError, match="expected a duration above 0"):
            segment_samples(seconds, 8000, 8)
    with pytest.raises(CallError, match=r"segments of 1e\+06 s; the longest clip that is decoded has 33,554 s"):
        segment_samples(1e6, 8000, 8)


def test_short_clips_end_in_silence(tmp_path):
    values = sound(3, 40)
    path = write_sound(tmp_path / "a.wav", values)
    loaded = preparation(length=64).load(AudioSegment(path, 0))[0]
    np.testing.assert_array_equal(loaded[:40] * 65536, values[:, 0])
    assert not loaded[40:].any()


def test_normalization_by_clip_is_the_published_one(tmp_path):
    values = sound(4, 500, channels=2) + 500
    path = write_sound(tmp_path / "a.wav", values)
    x = values.astype(np.float64).T / 32768
    x = x - x.mean()
    expected = x / (np.abs(x).max() + 1e-8) / 2
    loaded = preparation(channels=2, normalization="clip").load_native(path, 1)
    np.testing.assert_allclose(loaded, expected, atol=1e-6)
    assert np.abs(loaded).max() == pytest.approx(0.5, abs=1e-6)
    # A segment is normalized with its clip, not by itself.
    segment = preparation(length=100, channels=2, normalization="clip").load(AudioSegment(path, 200))
    np.testing.assert_array_equal(segment, loaded[:, 200:300])


def test_silence_is_normalized_to_silence(tmp_path):
    path = write_sound(tmp_path / "a.wav", np.zeros((64, 1), np.int16))
    assert not preparation(normalization="clip").load(path).any()


def test_native_clips_are_cut_to_the_stride(tmp_path):
    path = write_sound(tmp_path / "a.wav", sound(5, 1001))
    assert preparation().load_native(path, 16).shape == (1, 992)
    with pytest.raises(BadSignalError, match="1001 samples, fewer than the stride 2048"):
        preparation().load_native(path, 2048)


def test_reasons_name_the_damage_and_no_path(tmp_path):
    whole = write_sound(tmp_path / "a.wav", sound(6, 400)).read_bytes()
    cases = {"empty.wav": b"", "text.flac": b"not a sound", "cut.wav": whole[:30]}
    write_sound(tmp_path / "nan.wav", np.array([0, np.nan], np.float32), subtype="FLOAT")
    write_sound(tmp_path / "none.wav", np.empty((0, 1), np.int16))
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
    reasons = {}
    for name in (*cases, "nan.wav", "none.wav", "gone.wav"):
        with pytest.raises(BadSignalError) as caught:
            preparation().load(tmp_path / name)
        reasons[name] = str(caught.value)
        assert str(tmp_path) not in reasons[name]
        assert "\n" not in reasons[name]
    assert reasons["empty.wav"] == "empty file"
    assert reasons["text.flac"].startswith("cannot be decoded: ")
    assert reasons["nan.wav"] == "samples that are not finite"
    assert reasons["none.wav"] == "no samples"
    assert reasons["gone.wav"] == "no such file"


def test_clips_that_would_not_fit_the_memory_are_refused(tmp_path, monkeypatch):
    path = write_sound(tmp_path / "a.wav", sound(7, 1000))
    monkeypatch.setattr(audio, "MAX_CLIP_VALUES", 1999)
    preparation().load_native(path, 1)
    with pytest.raises(BadSignalError, match="2,000 samples at 16000 Hz, more than 1,999"):
        preparation(rate=16000).load_native(path, 1)
    monkeypatch.setattr(audio, "MAX_CLIP_VALUES", 999)
    with pytest.raises(BadSignalError, match="1,000 samples, more than 999"):
        preparation(rate=4000).load(AudioSegment(path, 1))


def test_a_small_file_of_silence_does_not_become_gigabytes(tmp_path):
    # 37 kB, which were decoded to 134 MB; libsndfile writes a gigabyte of silence as 244 kB
    path = write_sound(tmp_path / "a.flac", np.zeros((2**22, 8), np.int16))
    assert path.stat().st_size < 2**16
    reason = r"33,554,432 values from a file of [\d,]+ bytes, more than [\d,]+; store it without compression"
    with PeakMemory() as memory:
        with pytest.raises(BadSignalError, match=reason):
            preparation().load(path)
        with pytest.raises(BadSignalError, match=reason):
            preparation().load(path.read_bytes())
    assert memory.num_bytes < 2**24
    assert SegmentedSource(AudioFolder(tmp_path), preparation()).num_samples("train") == 1


def test_a_rate_of_one_hertz_does_not_make_a_long_clip_of_a_short_file(tmp_path):
    path = write_sound(tmp_path / "a.wav", np.zeros((5000, 1), np.int16), rate=1)
    with pytest.raises(BadSignalError, match=r"220,500,000 values from a file of 10,044 bytes, more than 19,348,480"):
        preparation(rate=44_100).load(path)
    assert SegmentedSource(AudioFolder(tmp_path), preparation(rate=44_100)).num_samples("train") == 1


def test_what_music_and_speech_compress_to_is_within_the_limit():
    seconds = 3600
    for rate, channels, bits_per_s in ((48_000, 2, 6000), (22_050, 1, 8000), (44_100, 2, 32_000)):
        clip = ClipInfo(seconds * rate, rate, channels, seconds * bits_per_s // 8)
        require_expansion(clip.num_frames * channels, clip.file_bytes)


@pytest.mark.parametrize("normalization", ["none", "clip"])
def test_decoding_takes_the_memory_of_two_clips(tmp_path, normalization):
    values = np.resize(sound(9, 2**16, channels=2), (2**22, 2))
    path, num_bytes = write_sound(tmp_path / "a.wav", values), 4 * values.size
    with PeakMemory() as memory:
        preparation(channels=2, normalization=normalization).load_clip(path)
    assert memory.num_bytes < 2.4 * num_bytes


def test_one_clip_at_a_time_is_kept(tmp_path):
    paths = [write_sound(tmp_path / name, np.resize(sound(9, 2**16), (2**23, 1))) for name in ("a.wav", "b.wav")]
    preparation().load(AudioSegment(paths[0], 0))
    with PeakMemory() as memory:
        preparation().load(AudioSegment(paths[1], 0))
    assert memory.num_bytes < 1.4 * 2**25


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux only")
def test_a_file_whose_name_is_not_utf8(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.wav")
    os.rename(write_sound(tmp_path / "a.wav", sound(10, 500)), path)
    assert read_clip_info(path).num_frames == 500
    assert preparation().load(AudioSegment(path, 0)).any()


def test_lossy_files_decode_as_soundfile_does(tmp_path):
    path = write_sound(tmp_path / "a.ogg", sound(8, 4000) / 32768)
    samples, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(preparation().load_native(path, 1)[0], np.clip(samples, -1, 1) / 2)


def test_every_kind_of_sound_file_is_listed_and_decoded(tmp_path):
    kinds = {"aifc": "AIFF", "au": None, "caf": None, "flac": None, "rf64": None, "snd": "AU", "w64": None, "WAV": None}
    for suffix, kind in kinds.items():
        soundfile.write(tmp_path / f"a.{suffix}", sound(1, 800), 8000, format=kind)
    source = open_source(f"audiofolder:{tmp_path}")
    assert [source.key("train", row) for row in range(len(kinds))] == sorted(f"a.{suffix}" for suffix in kinds)
    clips = [load_clip(str(source.read("train", row)), 1, 8000, "none") for row in range(len(kinds))]
    assert all(np.array_equal(clip, clips[0]) for clip in clips)
