from __future__ import annotations

import os
import shutil

import pytest

from datasets_prep import open_source
from tests.support.pictures import picture
from tests.support.reading_sources import keys, labels, message
from walloc_cdl.errors import CallError


def test_native_splits_keep_their_names_and_share_classes(make_folder):
    root = make_folder(splits=("train", "val", "test"), each=2)
    shutil.rmtree(root / "test" / "cat")
    source = open_source(f"imagefolder:{root}")
    assert source.name == "photos"
    assert source.split_names == ["train", "validation", "test"]
    assert source.class_names == ["cat", "dog"]
    assert keys(source, "validation") == ["val/cat/00.png", "val/cat/01.png", "val/dog/00.png", "val/dog/01.png"]
    assert labels(source, "test") == [1, 1]
    assert source.read("test", 1) == root / "test/dog/01.png"
    assert source.num_bytes("test", 1) == (root / "test/dog/01.png").stat().st_size


def test_folders_without_images_do_not_count_as_classes(make_folder):
    root = make_folder(each=1)
    (root / "notes").mkdir()
    (root / "notes" / "todo.txt").write_text("-")
    source = open_source(str(root))
    assert source.split_names == ["train", "test"]
    assert [(stray.split, stray.key, stray.reason) for stray in source.strays] == [
        (None, "notes/todo.txt", "not an image file name")
    ]


def test_flat_folder_has_no_labels(tmp_path):
    for name in ("b.png", "A.JPG", "é.webp"):
        picture(0).save(tmp_path / name)
    source = open_source(str(tmp_path))
    assert source.class_names is None
    assert keys(source) == ["A.JPG", "b.png", "é.webp"]
    assert labels(source) == [-1, -1, -1]


def test_order_does_not_depend_on_the_file_system(make_folder, monkeypatch):
    root = make_folder(classes=("b", "a", "c"))
    usual = open_source(str(root))
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: reversed(list(scan(folder))))
    other = open_source(str(root))
    assert keys(other) == keys(usual)
    assert other.fingerprint() == usual.fingerprint()


def test_fingerprint_follows_the_content_of_the_listing_only(make_folder, tmp_path):
    root = make_folder()
    usual = open_source(str(root)).fingerprint()
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "photos"
    shutil.copytree(root, moved)
    for path in moved.rglob("*.png"):
        os.utime(path, (0, 0))
    assert open_source(str(moved)).fingerprint() == usual
    (moved / "train/cat/00.png").write_bytes(b"shorter")
    changed = open_source(str(moved)).fingerprint()
    assert changed != usual
    (moved / "train/cat/00.png").rename(moved / "train/dog/00x.png")
    assert open_source(str(moved)).fingerprint() not in (usual, changed)


def test_hidden_files_are_ignored_and_other_files_are_strays(make_folder):
    root = make_folder(each=1)
    (root / ".DS_Store").write_bytes(b"-")
    (root / "train/cat/.thumb.png").write_bytes(b"-")
    (root / "train/cat/info.json").write_text("{}")
    os.mkfifo(root / "train/cat/pipe.png")
    source = open_source(str(root))
    assert keys(source) == ["train/cat/00.png", "train/dog/00.png"]
    assert [(stray.split, stray.key, stray.reason) for stray in source.strays] == [
        ("train", "train/cat/info.json", "not an image file name"),
        ("train", "train/cat/pipe.png", "not a regular file"),
    ]


def test_links_are_followed_except_in_cycles(make_folder, tmp_path):
    root = make_folder(each=1)
    (tmp_path / "more").mkdir()
    picture(1).save(tmp_path / "more" / "z.png")
    (root / "train/emu").symlink_to(tmp_path / "more")
    (root / "train/cat/up").symlink_to(root)
    (root / "train/cat/gone.png").symlink_to(tmp_path / "nowhere.png")
    source = open_source(str(root))
    assert keys(source) == ["train/cat/00.png", "train/cat/gone.png", "train/dog/00.png", "train/emu/z.png"]


def test_names_that_are_not_utf8(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"-")
    except OSError:
        pytest.skip("this file system wants UTF-8")
    source = open_source(str(tmp_path))
    assert keys(source) == ["caf\\xe9.png"]
    assert source.read("train", 0).read_bytes() == b"-"
    assert len(source.fingerprint()) == 64


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 1), ("RGB", 3), ("P", 3)])
def test_channels_are_those_of_the_images(make_folder, mode, channels):
    assert open_source(str(make_folder(mode=mode))).channels == channels


def test_channels_of_mixed_and_unreadable_images(make_folder):
    root = make_folder(each=1, mode="L")
    (root / "train/cat/00.png").write_bytes(b"-")
    assert open_source(str(root)).channels == 1
    picture(0).save(root / "test/dog/00.png")
    assert open_source(str(root)).channels == 3
    for path in root.rglob("*.png"):
        path.write_bytes(b"-")
    assert open_source(str(root)).channels is None


def test_refused_folders(make_folder, tmp_path):
    missing = message(str(tmp_path / "missing"))
    assert missing == f"image folder '{tmp_path / 'missing'}' does not exist; give the path of a folder of images"
    (tmp_path / "file").write_text("-")
    assert "is a file; give the path" in message(f"imagefolder:{tmp_path / 'file'}")
    (tmp_path / "empty").mkdir()
    assert "is empty; expected PATH/CLASS/IMAGE" in message(str(tmp_path / "empty"))
    (tmp_path / "empty/a.txt").write_text("-")
    assert "no image in" in message(str(tmp_path / "empty"))
    assert "only 1 other files (a.txt is the first)" in message(str(tmp_path / "empty"))


def test_infinitely_nested_folders_are_refused(tmp_path):
    """Otherwise Python's recursion limit would end the scan with a traceback."""
    deep = tmp_path.joinpath(*["a"] * 300)
    deep.mkdir(parents=True)
    (deep / "0.png").touch()
    with pytest.raises(CallError, match=r"folders nested more than 256 deep, such as '/.*'; use a flatter tree"):
        open_source(str(tmp_path))


def test_an_unreadable_folder(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CallError, match=r"folder '/.*' cannot be listed: Permission denied; allow reading it"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("remote", [False, True])
def test_images_beside_the_splits_are_strays(make_folder, remote):
    root = make_folder(each=1)
    picture(0).save(root / "cover.png")
    source = open_source(f"imagefolder:file://{root}" if remote else str(root))
    assert keys(source) == ["train/cat/00.png", "train/dog/00.png"]
    assert (source.split_names, source.class_names) == (["train", "test"], ["cat", "dog"])
    assert [(stray.split, stray.key, stray.reason) for stray in source.strays] == [
        (None, "cover.png", "outside of the splits")
    ]
    (note,) = source.notes
    assert note.startswith("1 images of '")
    assert "lie beside its splits (cover.png is the first) and are not stor" in note


def test_images_outside_of_class_folders_have_an_unknown_label(make_folder):
    root = make_folder("photos", splits=[""], each=1)
    picture(0).save(root / "cover.png")
    source = open_source(str(root))
    assert keys(source) == ["cat/00.png", "cover.png", "dog/00.png"]
    assert (source.class_names, labels(source)) == (["cat", "dog"], [0, -1, 1])
    assert source.notes == ["no labels of 1 images: they lie outside of the class folders (cover.png is the first)"]


def test_each_split_has_class_folders_or_none(make_folder):
    root = make_folder(splits=["train"], each=1)
    (root / "test").mkdir()
    for number in range(3):
        picture(number).save(root / "test" / f"{number}.png")
    source = open_source(str(root))
    assert (source.split_names, source.class_names) == (["train", "test"], ["cat", "dog"])
    assert (labels(source), labels(source, "test")) == ([0, 1], [-1, -1, -1])


def test_a_folder_without_classes_says_how_to_give_labels(tmp_path):
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text("{}")
    (note,) = open_source(str(tmp_path)).notes
    assert "has no class folders (PATH/CLASS/IMAGE); 1 other files are not read (a.json is the first); make" in note
    assert "or give --labels FILE, a text file of lines NAME LABEL" in note


def test_refused_layouts(make_folder):
    root = make_folder("twice", splits=("val", "valid"), each=1)
    assert "has val and valid, which all mean validation; keep one of them, or append ?splits=0" in message(str(root))


def test_a_tilde_is_expanded(make_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "list.csv").write_text("path\n0.png\n")
    root = make_folder()
    for text in (f"imagefolder:~/{root.name}", f"~/{root.name}", "csv:~/list.csv"):
        assert "~" not in (open_source(text).absence() or "") + open_source(text).origin.paths[0]
    assert keys(open_source(f"imagefolder:~/{root.name}")) == keys(open_source(str(root)))


def test_unknown_schemes_and_samples():
    assert message("imagefoldr:x").startswith("unknown source scheme 'imagefoldr'; nearest: imagefolder, ")
    assert message("sample:elpw").startswith("unknown sample 'elpw'; nearest: elpv; ")
    assert message("hf:").startswith("source 'hf:' is incomplete; expected audiofolder:PATH, ")
