import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from datasets_prep.archives.single_files import decode_files, encode_files
from datasets_prep.encode.any_size import pad_to_stride
from tests.support.pictures import picture
from walloc_cdl.codec import ResizeCodec, ResizeConfig, WallocCodec2D, WallocConfig2D, load_codec
from walloc_cdl.errors import CallError, DamagedError, SpecMismatchError
from walloc_cdl.latents.archive import archive_from_bytes, picture_to_bytes

LOSSLESS = ResizeCodec(ResizeConfig(channels=3, factor=1, name="resize-rgb-1x"))


def pixels_of(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".tiff", ".jxl"])
@pytest.mark.parametrize("size", [(1, 1), (37, 23), (300, 2)])
def test_a_lossless_codec_restores_every_pixel(suffix, size, tmp_path):
    picture(0, *size).save(tmp_path / "photo.bmp")
    report = encode_files(tmp_path / "photo.bmp", tmp_path / f"photo{suffix}", LOSSLESS)
    assert (report.num_written, report.num_samples) == (1, size[0] * size[1])
    assert report.archive_bytes == (tmp_path / f"photo{suffix}").stat().st_size
    decode_files(tmp_path / f"photo{suffix}", tmp_path / "back.bmp")
    np.testing.assert_array_equal(pixels_of(tmp_path / "back.bmp"), pixels_of(tmp_path / "photo.bmp"))


@pytest.mark.parametrize("name", ["rgb-16x", "gray-4x", "resize-rgb-16x"])
def test_any_size_is_padded_by_its_edge_and_cropped(name, tmp_path):
    codec = load_codec(name)
    mode = "L" if codec.source_channels == 1 else "RGB"
    picture(1, 101, 67, mode).save(tmp_path / "photo.png")
    encode_files(tmp_path / "photo.png", tmp_path / "a.webp", codec)
    archive = archive_from_bytes((tmp_path / "a.webp").read_bytes())
    assert archive.info.signal_shape == (codec.source_channels, 67, 101)
    assert archive.info.codec == name
    decode_files(tmp_path / "a.webp", tmp_path / "back.png")
    before, after = pixels_of(tmp_path / "photo.png"), pixels_of(tmp_path / "back.png")
    assert after.shape == before.shape
    assert np.abs(after.astype(float) - before).mean() < 8


def test_padding_repeats_the_last_row_and_column():
    padded = pad_to_stride(np.arange(6, dtype=np.uint8).reshape(1, 2, 3), 4)
    assert padded[0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    (root / "sub" / ".hidden").mkdir(parents=True)
    for number, name in enumerate(["a.png", "a.jpg", "sub/b.bmp", "sub/.hidden/c.png"]):
        picture(number, 20 + number, 17).save(root / name)
    (root / "notes.txt").write_text("no image")
    (root / "sub" / "broken.png").write_bytes(b"-")
    return root


def test_a_folder(photos, tmp_path):
    seen = []
    report = encode_files(
        photos, tmp_path / "out", LOSSLESS, container="png", on_file=lambda *state: seen.append(state)
    )
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert names == ["a.jpg.png", "a.png.png", "sub/b.bmp.png"]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert report.failures == {str(photos / "sub" / "broken.png"): "not an image of a known format"}
    assert (report.num_written, report.num_kept) == (3, 0)
    decoded = decode_files(tmp_path / "out", tmp_path / "back")
    assert decoded.num_written == 3
    assert report.num_samples == decoded.num_samples == 17 * (20 + 21 + 22)
    np.testing.assert_array_equal(pixels_of(tmp_path / "back/sub/b.bmp.png"), pixels_of(photos / "sub/b.bmp"))


def test_existing_files_are_kept_unless_overwrite_is_true(photos, tmp_path):
    first = encode_files(photos, tmp_path / "out", LOSSLESS, container="webp")
    (tmp_path / "out" / "a.jpg.webp").unlink()
    old = (tmp_path / "out" / "a.png.webp").stat()
    again = encode_files(photos, tmp_path / "out", LOSSLESS, container="webp")
    assert (again.num_written, again.num_kept) == (1, 2)
    assert (again.archive_bytes, again.num_samples) == (first.archive_bytes, first.num_samples)
    assert (tmp_path / "out" / "a.png.webp").stat().st_mtime_ns == old.st_mtime_ns
    with pytest.raises(SpecMismatchError, match=r"out.a\.\w+\.webp has codec_id '.{12}', but the codec has '.{12}'"):
        encode_files(photos, tmp_path / "out", load_codec("rgb-16x"), container="webp")
    replaced = encode_files(photos, tmp_path / "out", load_codec("rgb-16x"), container="webp", overwrite=True)
    assert replaced.num_written == 3


def test_another_codec_is_refused_and_an_unknown_codec_is_named(tmp_path):
    picture(0).save(tmp_path / "a.png")
    encode_files(tmp_path / "a.png", tmp_path / "a.webp", load_codec("rgb-16x"))
    with pytest.raises(SpecMismatchError, match=r"a.webp has codec_id '\w{12}', but codec rgb-4x has '\w{12}'"):
        decode_files(tmp_path / "a.webp", tmp_path / "b.png", load_codec("rgb-4x"))
    own = WallocCodec2D(WallocConfig2D(name="../../own"))
    encode_files(tmp_path / "a.png", tmp_path / "own.webp", own)
    with pytest.raises(
        CallError, match=r"made with codec '../../own' of id \w{12}, which does not ship .* \(--codec\)"
    ):
        decode_files(tmp_path / "own.webp", tmp_path / "b.png")
    decode_files(tmp_path / "own.webp", tmp_path / "b.png", own)
    assert pixels_of(tmp_path / "b.png").shape == (32, 40, 3)


def test_a_picture_without_metadata_is_decoded_by_the_given_codec(tmp_path):
    codec = load_codec("rgb-16x")
    picture(0, 64, 64).save(tmp_path / "a.png")
    encode_files(tmp_path / "a.png", tmp_path / "a.webp", codec)
    codes = archive_from_bytes((tmp_path / "a.webp").read_bytes()).codes
    (tmp_path / "bare.webp").write_bytes(picture_to_bytes(codes, bits=8, container="webp"))
    with pytest.raises(CallError, match=r"bare.webp does not record which codec made it; name the codec \(--codec\)"):
        decode_files(tmp_path / "bare.webp", tmp_path / "b.png")
    decode_files(tmp_path / "bare.webp", tmp_path / "b.png", codec)
    decode_files(tmp_path / "a.webp", tmp_path / "c.png")
    np.testing.assert_array_equal(pixels_of(tmp_path / "b.png"), pixels_of(tmp_path / "c.png"))


def test_orientation_is_applied(tmp_path):
    image = picture(0, 30, 20)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "rotated.jpg", exif=exif)
    encode_files(tmp_path / "rotated.jpg", tmp_path / "a.png", LOSSLESS)
    decode_files(tmp_path / "a.png", tmp_path / "b.png")
    assert pixels_of(tmp_path / "b.png").shape == (30, 20, 3)


def test_wrong_calls(photos, tmp_path):
    photo = photos / "a.png"
    wrong = [
        ((tmp_path / "none", tmp_path / "x.webp"), "none does not exist; name a file, or a folder of files"),
        ((photo, tmp_path / "x.docx"), "does not end in the suffix of an archive format; end its name in"),
        ((photo, photo), "is the file that is read; name another to write"),
        ((photo, tmp_path / "no" / "x.webp"), "there is no folder"),
        ((photos, photos / "out"), "whose files are read; name a folder elsewhere"),
        ((photos / "sub" / ".hidden" / "..", photo), "is a file; name a folder for the files of"),
    ]
    for call, message in wrong:
        with pytest.raises(CallError, match=message):
            encode_files(*call, LOSSLESS)
    with pytest.raises(CallError, match=r"x.png is the name of a png file, but the container is webp; omit it"):
        encode_files(photo, tmp_path / "x.png", LOSSLESS, container="webp")
    (tmp_path / "taken.png").write_bytes(photo.read_bytes())
    with pytest.raises(DamagedError, match=r"taken.png: a PNG of bit depth 8 and color type 2"):
        encode_files(photo, tmp_path / "taken.png", LOSSLESS)
    with pytest.raises(DamagedError, match=r"broken.png: not an image of a known format; give a file that can be read"):
        encode_files(photos / "sub" / "broken.png", tmp_path / "x.webp", LOSSLESS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CallError, match=r"no file in .* ends in one of .jxl, .png, .tif, .tiff, .webp; name another"):
        decode_files(tmp_path / "empty", tmp_path / "out")


def test_two_archives_with_the_same_output_path(photos, tmp_path):
    for name in ("png", "webp"):
        encode_files(photos, tmp_path / "out", LOSSLESS, container=name)
    with pytest.raises(
        CallError, match=r"a.jpg.png and .*a.jpg.webp would both become .*a.jpg.png; rename one of them"
    ):
        decode_files(tmp_path / "out", tmp_path / "back")


def test_sound_becomes_an_archive_and_a_sound_file_again(tmp_path):
    codec = load_codec("mono-16x")
    sound = np.random.default_rng(0).normal(0, 0.1, 20 * codec.stride).clip(-1, 1).astype(np.float32)
    soundfile.write(tmp_path / "clip.flac", sound, codec.sample_rate, subtype="PCM_16")
    report = encode_files(tmp_path / "clip.flac", tmp_path / "clip.webp", codec)
    assert (report.kind, report.num_samples) == ("audio", len(sound))
    decode_files(tmp_path / "clip.webp", tmp_path / "back.wav")
    stored, rate = soundfile.read(tmp_path / "clip.flac", dtype="float32")
    expected = codec.decode(codec.encode(torch.from_numpy(stored / 2)[None, None]))[0, 0]
    decoded, new_rate = soundfile.read(tmp_path / "back.wav", dtype="int16")
    assert (rate, new_rate) == (codec.sample_rate, codec.sample_rate)
    # Codes may differ by one where the signal was encoded by tiles, in about one of 100,000 cases.
    np.testing.assert_allclose(decoded, np.clip(np.round(expected.numpy() * 65536), -32768, 32767), atol=2)


def test_sound_files_that_cannot_be_written_are_refused(tmp_path):
    codec = load_codec("mono-16x")
    soundfile.write(tmp_path / "clip.wav", np.zeros(codec.stride), codec.sample_rate)
    encode_files(tmp_path / "clip.wav", tmp_path / "clip.png", codec)
    with pytest.raises(CallError, match=r"suffix of a 16-bit audio format; end its name in \.wav or \.flac"):
        decode_files(tmp_path / "clip.png", tmp_path / "back.txt")
    with pytest.raises(CallError, match="the codec has no sample rate, but audio files need one"):
        encode_files(tmp_path / "clip.wav", tmp_path / "small.png", load_codec("resize-mono-4x"))
