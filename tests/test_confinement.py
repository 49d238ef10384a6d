"""Nothing below a folder in use is reached through a link, at whatever moment the link appears."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.support.trees import all_files
from walloc_cdl import confinement
from walloc_cdl.confinement import HAS_DESCRIPTORS, confined, find_links, require_no_links
from walloc_cdl.errors import CallError
from walloc_cdl.file_locks import open_locked
from walloc_cdl.files import (
    link_file,
    make_folder,
    move_file,
    open_atomic,
    open_existing,
    remove_file,
    remove_folder,
    remove_temporaries,
    remove_tree,
    sync_folder,
    write_atomic,
)

LEFTOVER = ".a.bin.0123456789abcdef.tmp"


@pytest.fixture(params=[True, False], ids=["descriptors", "paths"])
def root(request, tmp_path, monkeypatch) -> Path:
    """A folder with `inner/a.bin`, and another one beside it; with descriptors, and as on systems without."""
    if request.param and not HAS_DESCRIPTORS:
        pytest.skip("the system has no operations relative to a descriptor")
    monkeypatch.setattr(confinement, "HAS_DESCRIPTORS", request.param)
    for folder in ("root/inner", "elsewhere/empty", "elsewhere/deep"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "root/inner/a.bin").write_bytes(b"old")
    for name in ("a.bin", LEFTOVER, "deep/b.bin"):
        (tmp_path / "elsewhere" / name).write_bytes(b"precious")
    return tmp_path / "root"


CHANGES = {
    "write": lambda folder: write_atomic(folder / "a.bin", b"new"),
    "write deeper": lambda folder: write_atomic(folder / "deep/b.bin", b"new"),
    "make a folder": lambda folder: make_folder(folder / "new/newer"),
    "remove": lambda folder: remove_file(folder / "a.bin"),
    "remove an empty folder": lambda folder: remove_folder(folder / "empty"),
    "remove a tree": lambda folder: remove_tree(folder / "deep"),
    "remove the tree": remove_tree,
    "move out": lambda folder: move_file(folder / "a.bin", folder.parent / "b.bin"),
    "move in": lambda folder: move_file(folder.parent / "mine.bin", folder / "a.bin"),
    "link": lambda folder: link_file(folder / "a.bin", folder.parent / "b.bin"),
    "remove temporaries": remove_temporaries,
    "sync": sync_folder,
    "read": lambda folder: open_existing(folder / "a.bin").__enter__(),
    "lock": lambda folder: open_locked(folder / "a.bin").__enter__(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_change_follows_a_link_to_a_folder(root, change):
    before = all_files(root.parent / "elsewhere")
    (root / "link").symlink_to("../elsewhere")
    (root / "mine.bin").write_bytes(b"mine")
    with (
        confined(root),
        pytest.raises(CallError, match=r"root/link is a link to '\.\./elsewhere'; links in"),
    ):
        CHANGES[change](root / "link")
    assert all_files(root.parent / "elsewhere") == before
    assert (root.parent / "elsewhere/empty").is_dir()
    assert sorted(os.listdir(root)) == ["inner", "link", "mine.bin"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_that_becomes_a_link_while_it_is_worked_in(root, change):
    before = all_files(root.parent / "elsewhere")
    (root / "mine.bin").write_bytes(b"mine")
    with confined(root):
        write_atomic(root / "inner/first.bin", b"-")
        (root / "inner").rename(root.parent / "away")
        (root / "inner").symlink_to(root.parent / "elsewhere")
        with pytest.raises(CallError, match="root/inner is a link to "):
            CHANGES[change](root / "inner")
    assert all_files(root.parent / "elsewhere") == before


@pytest.mark.skipif(not HAS_DESCRIPTORS, reason="needs operations relative to a descriptor")
def test_a_folder_that_becomes_a_link_while_a_file_is_written(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root/inner").mkdir(parents=True)
    with confined(tmp_path / "root"), open_atomic(tmp_path / "root/inner/a.bin") as file:
        (tmp_path / "root/inner").rename(tmp_path / "away")
        (tmp_path / "root/inner").symlink_to(tmp_path / "elsewhere")
        file.write(b"data")
    assert (tmp_path / "away/a.bin").read_bytes() == b"data"
    assert not os.listdir(tmp_path / "elsewhere")


def test_links_to_files_are_replaced_and_removed_themselves(root):
    before = all_files(root.parent / "elsewhere")
    for name in ("written", "removed", "moved", "inner/b.bin"):
        (root / name).symlink_to(root.parent / "elsewhere/a.bin")
    with confined(root):
        write_atomic(root / "written", b"new")
        remove_file(root / "removed")
        move_file(root / "inner/a.bin", root / "moved")
        remove_tree(root / "inner")
    assert all_files(root.parent / "elsewhere") == before
    assert not any(find_links(root))
    assert all_files(root) == {"written": b"new", "moved": b"old"}


def test_a_file_that_is_copied_is_no_link(root):
    (root / "link").symlink_to(root.parent / "elsewhere/a.bin")
    with confined(root), pytest.raises(CallError, match="root/link is a link to "), open_existing(root / "link"):
        pass
    with open_existing(root / "link") as file:  # of a folder that nobody works in
        assert file.read() == b"precious"


def test_links_in_a_tree_that_is_removed(root):
    before = all_files(root.parent / "elsewhere")
    (root / "inner/deep").mkdir()
    (root / "inner/deep/link").symlink_to(root.parent / "elsewhere")
    (root / "inner/file").symlink_to(root.parent / "elsewhere/a.bin")
    remove_tree(root / "inner")
    assert not (root / "inner").exists()
    assert all_files(root.parent / "elsewhere") == before
    (root / "inner").symlink_to(root.parent / "elsewhere")
    with pytest.raises(CallError, match="root/inner is a link to "):
        remove_tree(root / "inner")
    assert all_files(root.parent / "elsewhere") == before


def test_the_way_to_the_folder_may_have_links(root):
    alias = root.parent / "alias"
    alias.symlink_to("root")
    with confined(alias):
        write_atomic(alias / "inner/a.bin", b"new")
        make_folder(alias / "more/of it")
    assert (root / "inner/a.bin").read_bytes() == b"new"
    assert (root / "more/of it").is_dir()


def test_the_outermost_folder_in_use_counts(root):
    (root / "link").symlink_to(root.parent / "elsewhere")
    with confined(root), pytest.raises(CallError, match="root/link is a link"), confined(root / "link"):
        pass
    with confined(root), confined(root / "inner"):
        (root / "inner/link").symlink_to(root.parent / "elsewhere")
        with pytest.raises(CallError, match="inner/link is a link"):
            write_atomic(root / "inner/link/a.bin", b"new")
    with confined(root / "link"):
        write_atomic(root / "link/a.bin", b"new")
    assert not confinement._ROOTS


def test_other_threads_follow_no_links_either(root):
    (root / "link").symlink_to(root.parent / "elsewhere")
    errors = []

    def write() -> None:
        try:
            write_atomic(root / "link/a.bin", b"new")
        except CallError as error:
            errors.append(str(error))

    with confined(root):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert len(errors) == 1


def test_paths_that_lead_out(root):
    for path in (root / "../elsewhere/a.bin", root / "inner/../../elsewhere/a.bin"):
        with confined(root), pytest.raises(CallError, match=r"leads out of .*root; give a path inside it"):
            write_atomic(path, b"new")
    with confined(root):
        write_atomic(root.parent / "elsewhere/a.bin", b"new")  # not below the folder


def test_errors_name_the_whole_path(root):
    with confined(root):
        for path in (root / "absent/a.bin", root / "inner/a.bin/deeper"):
            with pytest.raises(OSError, match="directory") as caught:
                write_atomic(path, b"")
            assert Path(caught.value.filename).is_relative_to(root)


def test_links_are_found_and_not_followed(root):
    assert not list(find_links(root / "absent"))
    require_no_links(root)
    (root / "inner/deep").mkdir()
    (root / "inner/deep/up").symlink_to(root)
    (root / "broken").symlink_to("nowhere")
    (root / "file").symlink_to("inner/a.bin")
    assert list(find_links(root)) == ["broken", "file", "inner/deep/up"]
    with pytest.raises(CallError) as caught:
        require_no_links(root)
    assert str(caught.value) == (
        f"{root}/broken is a link to 'nowhere', the first of 3 here; links in this folder are not followed: "
        "remove the link, or put what it leads to in its place"
    )


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX files")
@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_the_file_of_a_lock_is_a_file_of_its_own(root, kind):
    precious, path = root.parent / "elsewhere/a.bin", root / "job.lock"
    if kind == "link":
        path.symlink_to(precious)
    elif kind == "hard link":
        os.link(precious, path)
    else:
        os.mkfifo(path)
    with pytest.raises(CallError, match=r"job\.lock is "), open_locked(path) as (file, _):
        file.truncate(0)
    assert precious.read_bytes() == b"precious"
