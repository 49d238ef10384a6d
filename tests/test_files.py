"""Files are whole or absent, whatever happens while they are written."""

import os

import pytest

from walloc_cdl.files import foreign_names, is_temporary, remove_temporaries, write_atomic

LEFTOVER = ".a.bin.0123456789abcdef.tmp"


def test_write_atomic_replaces_the_file(tmp_path):
    write_atomic(tmp_path / "a.bin", b"old")
    write_atomic(tmp_path / "a.bin", b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    write_atomic(tmp_path / "a.bin", b"old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "a.bin", b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_file_and_folder_are_synced_around_the_rename(tmp_path, monkeypatch):
    steps = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real, **o: (steps.append(name), real(*a, **o))[1])
    write_atomic(tmp_path / "a.bin", b"data")
    assert steps == ["fsync", "replace", "fsync"]


def test_files_have_the_permissions_of_ordinary_ones(tmp_path):
    write_atomic(tmp_path / "a.bin", b"")
    (tmp_path / "b.bin").write_bytes(b"")
    assert (tmp_path / "a.bin").stat().st_mode == (tmp_path / "b.bin").stat().st_mode


def test_leftovers_of_a_killed_writer_are_known_and_removed_and_nothing_else(tmp_path):
    names = ["a.bin", ".hidden", ".a.bin.tmp", "a.bin.0123456789abcdef.tmp", LEFTOVER]
    for name in names:
        (tmp_path / name).write_bytes(b"-")
    assert [name for name in names if is_temporary(name)] == [LEFTOVER]
    assert foreign_names(tmp_path, {"a.bin"}) == [".a.bin.tmp", ".hidden", "a.bin.0123456789abcdef.tmp"]
    remove_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(set(names) - {LEFTOVER})


def test_the_temporary_name_is_one_that_is_known_for_a_leftover(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "replace", lambda before, after, **options: seen.append(os.path.basename(before)))
    write_atomic(tmp_path / "model.safetensors", b"")
    assert is_temporary(seen[0])


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert foreign_names(tmp_path / "absent", set()) == []
    remove_temporaries(tmp_path / "absent")
