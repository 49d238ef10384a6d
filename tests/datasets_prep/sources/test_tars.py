"""Tars read by their headers: finds what Python's `tarfile` writes, and no byte sequence does harm."""

from __future__ import annotations

import contextlib
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_prep.sources.archives.tars import DamagedTarError, members, require_tar
from tests.support.reading_sources import message
from tests.support.web_servers import serving
from walloc_cdl.errors import CallError

FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
NAMES = st.text("abé/.", min_size=1, max_size=8).map(lambda text: "x" + text.replace("//", "/") + "x")


def tar_bytes(files, tar_format=tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tar_format) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def contents(data: bytes):
    file = io.BytesIO(data)
    found = list(members(file))
    return [(member.name.decode(), data[member.offset : member.offset + member.num_bytes]) for member in found]


@settings(deadline=None)
@given(files=st.lists(st.tuples(NAMES, st.binary(max_size=1100)), max_size=6), tar_format=FORMATS)
def test_what_tarfile_writes(files, tar_format):
    assert contents(tar_bytes(files, tar_format)) == files


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_belong_to_the_next_member_only(tar_format):
    files = [("d/" * 120 + "long.jpg", b"1"), ("short.jpg", b"22"), ("é" * 90 + ".jpg", b"3")]
    assert contents(tar_bytes(files, tar_format)) == files


def test_an_endless_tar_has_an_end(monkeypatch):
    """A server that makes up members: an empty one at every block, of a file that it says to have 2**49 bytes."""
    header = tar_bytes([(".hidden", b"")])[:512]

    def answer(request):
        first, last = request.range()
        request.answer_range((header * 130)[first % 512 :][: last + 1 - first], 2**49)

    with serving(answer) as url:
        monkeypatch.setattr("datasets_prep.sources.archives.tars.MAX_HEADERS", 300)
        assert "(the tar has more than 300 headers)" in message(f"webdataset:{url}/a.tar")
        monkeypatch.setattr("datasets_prep.sources.archives.tars.MAX_HEADERS", 10**9)
        monkeypatch.setattr("datasets_prep.sources.archives.webdataset.SCAN_S", 0.2)
        assert "cannot be read: took longer than 0.2 s" in message(f"webdataset:{url}/a.tar")


def test_folders_and_links_are_not_members():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE):
            info = tarfile.TarInfo("a")
            info.type, info.linkname = kind, "b"
            tar.addfile(info)
        tar.addfile(tarfile.TarInfo("empty.txt"))
    assert contents(stream.getvalue()) == [("empty.txt", b"")]


def test_sizes_beyond_octal_are_read_without_their_content():
    info = tarfile.TarInfo("huge.jpg")
    info.size = 2**33 + 5
    header = info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(DamagedTarError, match=r"is truncated within its member huge\.jpg, at 0 bytes"):
        list(members(io.BytesIO(header + bytes(2048))))


def test_a_tar_within_a_file():
    inner = tar_bytes([("a", b"1"), ("b", b"22")])
    found = list(members(io.BytesIO(b"x" * 100 + inner + b"y" * 700), 100, len(inner)))
    assert [(member.name, member.offset, member.num_bytes) for member in found] == [
        (b"a", 100 + 512, 1),
        (b"b", 100 + 1536, 2),
    ]


def ending(data: bytes) -> tuple[int, str]:
    """Return the number of members, and the message of the error at the end, if any."""
    count = 0
    try:
        for _ in members(io.BytesIO(data)):
            count += 1
    except DamagedTarError as error:
        return count, str(error)
    return count, ""


def test_truncated_and_damaged_tars():
    data = tar_bytes([("a", b"1" * 600), ("b", b"2" * 600), ("c", b"3")])
    assert ending(data) == (3, "")
    assert ending(data[:1536]) == (1, "ends after 1,536 bytes without an end mark: it may be truncated")
    assert ending(data[:1700]) == (1, "is truncated within its header at 1,536 bytes")
    assert ending(data[:2500]) == (1, "is truncated within its member b, at 1,536 bytes")
    broken = data[:1540] + b"#" + data[1541:]
    assert ending(broken) == (
        1,
        "is damaged: the checksum of its header at 1,536 bytes is wrong, so what follows cannot be found",
    )


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_mutated_tars_end_or_give_members_within_the_file(data):
    whole = bytearray(tar_bytes([("d/" * 60 + "a.jpg", b"1" * 700), ("é.cls", b"7")], data.draw(FORMATS)))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with contextlib.suppress(DamagedTarError):
        for member in members(io.BytesIO(cut)):
            assert 0 <= member.offset <= member.offset + member.num_bytes <= len(cut)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x1f\x8b" + bytes(600), "'x.tar' is compressed with gzip; decompress it: random access"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "compressed with zstd"),
        (b"hello", r"'x.tar' is not a tar file \(is truncated within its header at 0 bytes\); give the path of plain"),
        (b"P" * 512, r"'x.tar' is not a tar file \(is damaged: the checksum"),
    ],
)
def test_other_files_are_refused(data, message):
    with pytest.raises(CallError, match=message):
        require_tar(io.BytesIO(data), "x.tar")
