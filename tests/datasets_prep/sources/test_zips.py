"""Zip archives as sources: the same data set as the unpacked folder, wherever the archive is and whoever wrote it."""

from __future__ import annotations

import pickle
import stat
import zipfile
import zlib
from contextlib import suppress

import fsspec
import numpy as np
import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.samples.content import read_stored
from datasets_prep.samples.stored import BadSignalError, ZipMember
from tests.support.pictures import encoded, picture
from tests.support.reading_sources import assert_is_picture, keys, message
from tests.support.web_servers import serving
from walloc_cdl.errors import CallError

PHOTOS = {"cat/0.png": 0, "cat/1.png": 1, "dog/b/2.png": 2}
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]


def zipped(path, files, method=zipfile.ZIP_DEFLATED):
    """Write an archive of files (name to content; a number is a picture's seed) and return its path."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            info.compress_type = method
            archive.writestr(info, encoded(picture(content)) if isinstance(content, int) else content)
    return path


@pytest.mark.parametrize("method", METHODS)
def test_an_archive_is_what_its_folder_is(tmp_path, method):
    files = {"dog/b/2.png": 2, "cat/1.png": 1, "notes.txt": b"-", "cat/0.png": 0, ".hidden.png": 3, "empty/": b""}
    path = zipped(tmp_path / "photos.zip", files, method)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "photos")
    folder = open_source(f"imagefolder:{tmp_path / 'photos'}")
    for text in (f"imagefolder:{path}", str(path), f"imagefolder:{path}?splits=0"):
        source = open_source(text)
        assert (source.name, keys(source), source.class_names) == ("photos", sorted(PHOTOS), ["cat", "dog"])
        assert source.fingerprint() == folder.fingerprint()
        assert list(source.strays) == list(folder.strays)
    for row in range(3):
        assert read_stored(source.read("train", row)) == encoded(picture(row))
        assert source.num_bytes("train", row) == len(encoded(picture(row)))
    assert_is_picture(pickle.loads(pickle.dumps(source.part("train", 1, 3)))[1], 2)
    assert source.absence() is None
    path.unlink()
    assert source.absence() == f"the zip archive '{path}'"


def test_a_job_on_an_archive_makes_the_data_set_of_the_folder(tmp_path, rgb_codec):
    path = zipped(tmp_path / "photos.zip", PHOTOS | {"dog/bad.png": b"no image"})
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "photos")
    for name, workers in (("photos", 0), ("photos.zip", 1)):
        source = open_source(f"imagefolder:{tmp_path / name}")
        prepare(source, rgb_codec, tmp_path / f"out-{name}", PrepareConfig(size=32, workers=workers))
    for name in ("train-00000.safetensors", "ledger.parquet"):
        assert (tmp_path / "out-photos" / name).read_bytes() == (tmp_path / "out-photos.zip" / name).read_bytes()


@pytest.mark.parametrize(
    ("names", "splits", "found"),
    [
        (["photos/cat/0.png", "photos/dog/1.png", "photos/README"], ["train"], ["cat/0.png", "dog/1.png"]),
        (["set/cat/0.png", "set/dog/1.png", "README"], ["train"], ["cat/0.png", "dog/1.png"]),
        (["a/b/cat/0.png", "a/b/dog/1.png"], ["train"], ["cat/0.png", "dog/1.png"]),
        (["photos/0.png", "photos/1.png"], ["train"], ["0.png", "1.png"]),
        (["cat/0.png", "cat/1.png"], ["train"], ["cat/0.png", "cat/1.png"]),
        (["0.png", "cat/1.png"], ["train"], ["0.png", "cat/1.png"]),
        (["photos/Train/cat/0.png", "photos/VAL/cat/1.png"], ["train", "validation"], ["Train/cat/0.png"]),
        (["test/cat/0.png", "test/dog/1.png"], ["test"], ["test/cat/0.png", "test/dog/1.png"]),
    ],
)
def test_folders_around_everything(tmp_path, names, splits, found):
    files = {name: number if name.endswith("png") else b"-" for number, name in enumerate(names)}
    source = open_source(f"imagefolder:{zipped(tmp_path / 'photos.zip', files)}")
    assert source.split_names == splits
    assert keys(source, splits[0]) == found
    assert_is_picture(source.read(splits[0], 0), 0)
    assert [stray.key for stray in source.strays] == (
        ["../README"] if "README" in names else ["README"] * (len(names) == 3)
    )


def test_names_and_types_of_files(tmp_path):
    link = zipfile.ZipInfo("cat/link.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    windows = zipfile.ZipInfo("dog/x.png")
    windows.create_system, windows.filename = 0, "dog\\2.png"
    files = {link: b"/etc/passwd", "../../up.png": 1, "/cat/0.png": 0, windows: 2, "__MACOSX/cat/._0.png": b"-"}
    files |= {"cat/é\n.png": 3, "./cat/4.png": 4}
    source = open_source(f"imagefolder:{zipped(tmp_path / 'a.zip', files)}")
    assert keys(source) == ["cat/0.png", "cat/4.png", "cat/é\n.png", "dog/2.png"]
    assert [(stray.key, stray.reason) for stray in source.strays] == [
        ("../../up.png", "not a regular file"),
        ("cat/link.png", "not a regular file"),
    ]


def test_the_last_file_of_a_name_counts(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/0.png", encoded(picture(0)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a/0.png", encoded(picture(1)))
    source = open_source(f"imagefolder:{tmp_path / 'a.zip'}")
    assert keys(source) == ["0.png"]
    assert_is_picture(source.read("train", 0), 1)


def test_archives_at_urls(tmp_path):
    data = zipped(tmp_path / "photos.zip", PHOTOS).read_bytes()

    def answer(request):
        first, last = request.range()
        request.answer_range(data[first : last + 1], len(data))

    fsspec.filesystem("memory").pipe("/archives/photos.zip", data)
    with serving(answer) as url:
        for text in (f"imagefolder:{url}/photos.zip", "imagefolder:memory://archives/photos.zip?splits=0"):
            source = open_source(text)
            assert (source.name, keys(source)) == ("photos", sorted(PHOTOS))
            assert_is_picture(source.read("train", 2), 2)
        assert keys(open_source(f"imagefolder:{url}/photos.zip?token=1")) == sorted(PHOTOS)
        assert "public=1 refuses" in message(f"imagefolder:{url}/photos.zip?public=1")
    assert "cannot be read: " in message("imagefolder:memory://archives/none.zip")


def test_refusals(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.png": 0}, zipfile.ZIP_BZIP2)
    assert message(str(path)) == f"'a.png' in '{path}' is packed with bzip2; expected deflate: unpack the archive"
    data = bytearray(zipped(tmp_path / "b.zip", {"a.png": 0}).read_bytes())
    data[data.rindex(b"PK\1\2") + 8] |= 1
    (tmp_path / "b.zip").write_bytes(data)
    assert "'a.png' in '" in message(f"{tmp_path}/b.zip")
    assert "b.zip' is encrypted; unpack the archive with its password" in message(f"{tmp_path}/b.zip")
    (tmp_path / "c.zip").write_bytes(b"no archive")
    assert "c.zip' cannot be read (BadZipFile: File is not a zip file); pack it again" in message(f"{tmp_path}/c.zip")
    path = zipped(tmp_path / "d.zip", {"a.txt": b"-"})
    assert f"no image in '{path}', only 1 other files" in message(str(path))
    assert "empty" in message(str(zipped(tmp_path / "e.zip", {})))
    assert "is a zip archive: unpack it; give the path of a folder of sounds" in message(f"audiofolder:{path}")
    assert "image folder '" in message(f"imagefolder:{tmp_path}/none.zip")


def test_damaged_members(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.png": bytes(range(256)) * 40})
    member = open_source(str(path)).read("train", 0)
    whole = path.read_bytes()
    for position, said in ((0, "its header"), (member.offset + 40, "its content"), (member.offset + 36, "its content")):
        data = bytearray(whole)
        data[position] ^= 0xFF
        path.write_bytes(data)
        with pytest.raises(BadSignalError, match=f"{said} in the zip archive is damaged"):
            read_stored(member)
    path.write_bytes(whole[:20])
    with pytest.raises(BadSignalError, match="20 bytes, where 30 were listed"):
        read_stored(member)


def test_a_member_that_unfolds_to_more_than_it_declares(tmp_path):
    bomb = zlib.compressobj(9, wbits=-15)
    packed = bomb.compress(bytes(2**26)) + bomb.flush()
    data = b"PK\3\4" + bytes(26) + packed
    (tmp_path / "a.zip").write_bytes(data)
    for num_bytes in (100, 2**27):
        member = ZipMember(str(tmp_path / "a.zip"), 0, num_bytes, packed_bytes=len(packed), method=8, crc32=0)
        with pytest.raises(BadSignalError, match="its content in the zip archive is damaged"):
            read_stored(member)
    member = ZipMember(str(tmp_path / "a.zip"), 0, 2**29, packed_bytes=len(packed), method=8, crc32=0)
    with pytest.raises(BadSignalError, match=r"^[\d,]+ bytes in the zip archive, which become 536,870,912$"):
        read_stored(member)
    with pytest.raises(BadSignalError, match="more than 1,073,741,824"):
        read_stored(ZipMember(str(tmp_path / "a.zip"), 0, 2**40, packed_bytes=5, method=8, crc32=0))


def test_mutated_archives(tmp_path):
    """A clear error, or samples that can be read or are damaged; never anything else."""
    path = zipped(tmp_path / "a.zip", {"cat/a.png": b"12" * 50, "dog/b.png": b"3" * 9})
    whole, rng, num_opened = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        path.write_bytes(data[: int(rng.integers(len(data) // 2, 2 * len(data)))])
        try:
            source = open_source(f"imagefolder:{path}")
        except CallError:
            continue
        num_opened += 1
        for split in source.split_names:
            for stored in source.part(split, 0, source.num_samples(split)):
                with suppress(BadSignalError):
                    assert isinstance(read_stored(stored), bytes)
    assert 50 < num_opened < 250
