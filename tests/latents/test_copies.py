"""Second copies: a failed copy names the file and leaves nothing behind."""

import io
import os

import pytest

from walloc_cdl.canonical import sha256_hex
from walloc_cdl.latents import FileEntry, copies, copy_listed

DATA = b"a codec"
ENTRY = FileEntry(len(DATA), sha256_hex(DATA))


class BadSector(io.BytesIO):
    def read(self, size=-1):
        raise OSError(5, "Input/output error")


def test_a_failed_read_names_the_file_that_was_read(tmp_path, monkeypatch):
    source, target = tmp_path / "config.json", tmp_path / "copy" / "config.json"
    source.write_bytes(DATA)
    monkeypatch.setattr(copies, "open_existing", lambda path: BadSector())
    with pytest.raises(OSError, match="Input/output error") as caught:
        copy_listed(source, target, ENTRY)
    assert caught.value.filename == str(source)
    assert os.listdir(target.parent) == []


def test_a_failed_write_names_the_file_that_was_written(tmp_path, monkeypatch):
    source, target = tmp_path / "config.json", tmp_path / "copy" / "config.json"
    source.write_bytes(DATA)

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left") as caught:
        copy_listed(source, target, ENTRY)
    assert caught.value.filename == str(target)
    assert os.listdir(target.parent) == []
