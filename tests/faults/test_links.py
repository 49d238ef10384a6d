"""Folders that come from elsewhere: no command writes, removes or restores outside of them, and none believes them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from datasets_prep import PrepareConfig, open_source, prepare, prepare_to
from datasets_prep.archives.export import export_archives
from datasets_prep.archives.restore import import_archives
from datasets_prep.archives.single_files import decode_files, encode_files
from datasets_prep.exports import export_latents
from datasets_prep.folders import derived_folder
from datasets_prep.hub.pull import pull
from datasets_prep.upkeep import edit
from datasets_prep.upkeep.drop import drop
from datasets_prep.upkeep.merge import merge
from datasets_prep.upkeep.repair import repair
from datasets_prep.upkeep.split import SplitConfig, split_in_place, take_split
from experiments.training.compare import CompareConfig, compare
from tests.support.any_sets import write_any_set
from tests.support.pictures import picture
from tests.support.small_sets import make_spec
from tests.support.trees import all_files
from walloc_cdl.cli.app import run
from walloc_cdl.codec import ResizeCodec, ResizeConfig, load_codec
from walloc_cdl.codec.codec_files import FILE_NAMES, write_codec_files
from walloc_cdl.data.cache import FileCache
from walloc_cdl.errors import CallError
from walloc_cdl.latents import LabelSpec, SampleLayout, load_manifest, verify
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, parse_json_with_digest
from walloc_cdl.training import RunFolder

LAYOUT = SampleLayout(make_spec(2), (2, 2, 3), LabelSpec("class", 3))
CODEC = ResizeCodec(ResizeConfig(channels=3, factor=4, name="resize-rgb-16x"))
SMALL = PrepareConfig(size=16, shard_samples=3, workers=0)
SHARES = SplitConfig({"train": 0.5, "val": 0.5}, "train")


class StopError(BaseException):
    """Raised to interrupt a job."""


def stop(*arguments: object, **options: object) -> None:
    raise StopError


@pytest.fixture
def folder(tmp_path) -> Path:
    """A finished data set."""
    write_set(tmp_path / "set")
    return tmp_path / "set"


def write_set(folder: Path, seed: int = 0) -> None:
    keys = {"train": [f"{seed} {row}.jpg" for row in range(5)], "test": [f"{seed} a.jpg", f"{seed} b.jpg"]}
    write_any_set(folder, LAYOUT, {"train": [3, 2], "test": [2]}, seed=seed, keys=keys)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Eight images of two classes."""
    root = tmp_path_factory.mktemp("source") / "photos"
    for number in range(8):
        path = root / "train" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number, 20, 18).save(path)
    return root


def each_link(folder: Path, elsewhere: Path) -> Iterator[str]:
    """Yield the path of each file and folder in `folder`, which a link to the same content elsewhere has replaced.

    Last comes a link that nothing knows of.
    """
    original = folder.with_name("original")
    shutil.copytree(folder, original)
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    for path in [*paths, "y"]:
        for place in (folder, elsewhere):
            shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(original, folder)
        shutil.copytree(original, elsewhere)
        for parent in (elsewhere, *(each for each in elsewhere.rglob("*") if each.is_dir())):
            (parent / "precious.txt").write_text("precious")
            (parent / ".precious.txt.0123456789abcdef.tmp").write_text("precious")
        if path != "y":
            (shutil.rmtree if (folder / path).is_dir() else os.unlink)(folder / path)
        (folder / path).symlink_to(elsewhere if path == "y" else elsewhere / path)
        yield path


def require_untouched(folder: Path, tmp_path: Path, command: Callable[[], object]) -> None:
    """Assert that a command refuses each link in the folder, and changes nothing where it leads to."""
    num_links = 0
    for path in each_link(folder, tmp_path / "elsewhere"):
        before = all_files(tmp_path / "elsewhere")
        with pytest.raises(CallError, match="is a link to "):
            command()
        assert all_files(tmp_path / "elsewhere") == before, path
        assert (folder / path).is_symlink(), path
        num_links += 1
    assert num_links > 4


EDITS = {
    "repair": repair,
    "drop": lambda folder: drop(folder, ["0 0.jpg", "0 4.jpg"]),
    "split": lambda folder: split_in_place(folder, SHARES),
}


@pytest.mark.parametrize("command", EDITS)
def test_finished_data_sets(folder, tmp_path, command):
    require_untouched(folder, tmp_path, lambda: EDITS[command](folder))


@pytest.mark.parametrize("command", EDITS)
def test_interrupted_edits(folder, tmp_path, monkeypatch, command):
    interrupt_edit(folder, monkeypatch)
    require_untouched(folder, tmp_path, lambda: EDITS[command](folder))


def interrupt_edit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(edit, "_move_into_place", stop)
        with pytest.raises(StopError):
            drop(folder, ["0 0.jpg"])


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, restart=True), replace(SMALL, finish=True)])
def test_unfinished_jobs(photos, tmp_path, config):
    out = tmp_path / "out"
    prepare(open_source(str(photos)), CODEC, out, replace(SMALL, shards="1/2"))
    require_untouched(out, tmp_path, lambda: prepare(open_source(str(photos)), CODEC, out, config))


@pytest.mark.parametrize("config", [replace(SMALL, shard_samples=4, restart=True), replace(SMALL, extend=True)])
def test_finished_jobs(photos, tmp_path, config):
    out = tmp_path / "out"
    shutil.copytree(photos, tmp_path / "photos")
    prepare(open_source(str(tmp_path / "photos")), CODEC, out, SMALL)
    picture(9, 20, 18).save(tmp_path / "photos/train/cat/9.png")
    require_untouched(out, tmp_path, lambda: prepare(open_source(str(tmp_path / "photos")), CODEC, out, config))


def test_unfinished_extensions(photos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(photos, tmp_path / "photos")
    prepare(open_source(str(tmp_path / "photos")), CODEC, out, SMALL)
    picture(9, 20, 18).save(tmp_path / "photos/train/cat/9.png")

    def extend() -> object:
        return prepare(open_source(str(tmp_path / "photos")), CODEC, out, replace(SMALL, extend=True))

    with monkeypatch.context() as patch:
        patch.setattr("datasets_prep.upkeep.extend.write_edited_ledger", stop)
        with pytest.raises(StopError):
            extend()
    shutil.rmtree(out / "_work/edit", ignore_errors=True)
    assert (out / "_work/extension/_work/plan.json").is_file()
    require_untouched(out, tmp_path, extend)


DERIVED: dict[str, Callable[[Path, Path], object]] = {
    "merge": lambda folder, out: merge([folder, folder.with_name("other")], out),
    "split": lambda folder, out: take_split(folder, "train", out),
    "export": lambda folder, out: export_latents(folder, out, "webdataset"),
    "archive": lambda folder, out: export_archives(folder, out, container="png"),
    "restore": lambda folder, out: import_archives(folder.with_name("archives"), out),
    "pull": lambda folder, out: pull("memory://set", out),
}


@pytest.mark.parametrize("command", DERIVED)
def test_unfinished_derived_folders(folder, tmp_path, monkeypatch, command):
    out = tmp_path / "out"
    write_set(tmp_path / "other", seed=1)
    export_archives(folder, tmp_path / "archives", container="png")
    fsspec.filesystem("memory").put(str(folder), "/set", recursive=True)
    with monkeypatch.context() as patch:
        patch.setattr(derived_folder, "_end", stop)
        with pytest.raises(StopError):
            DERIVED[command](folder, out)
    for name in ("manifest.json", "archives.json", "export.json", "walloc_cdl.json"):
        (out / name).unlink(missing_ok=True)
    require_untouched(out, tmp_path, lambda: DERIVED[command](folder, out))


def forge_edit(folder: Path, **fields: list[str]) -> None:
    """Write the record of an edit as anybody can, with all that it would need to be carried out."""
    stage = folder / "_work/edit"
    stage.mkdir(parents=True)
    shutil.copy(folder / "manifest.json", stage)
    for name in fields.get("place", []):
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).write_text("forged")
    record = {
        "format": "walloc-cdl edit",
        "format_version": 1,
        "place": [],
        "remove": [],
        "clear": [],
        "manifest_sha256": hashlib.sha256((stage / "manifest.json").read_bytes()).hexdigest(),
        "hmac_sha256": "0" * 64,
        **fields,
    }
    (folder / "_work/edit.json").write_bytes(encode_json_with_digest(record))


FORGED = {"place": ["y/a.txt", "notes.txt"], "remove": ["y/b.txt", "mine.txt"], "clear": ["deep"]}


@pytest.mark.parametrize("command", EDITS)
def test_a_forged_edit_with_a_link(folder, tmp_path, command):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "deep/c.txt"):
        (elsewhere / name).write_text("precious")
    (folder / "y").symlink_to(elsewhere)
    forge_edit(folder, **FORGED)
    (folder / "_work/deep").symlink_to(elsewhere / "deep")
    before = all_files(elsewhere), all_files(folder)
    with pytest.raises(CallError, match=r"set/y is a link to '.*/elsewhere', the first of 2 here"):
        EDITS[command](folder)
    with pytest.raises(CallError, match="is a link to"):
        repair(folder, finish_edit=True)
    assert (all_files(elsewhere), all_files(folder)) == before


@pytest.mark.parametrize("command", EDITS)
def test_an_edit_from_elsewhere_is_not_completed_unasked(folder, command):
    (folder / "mine.txt").write_text("precious")
    forge_edit(folder, place=["y/a.txt"], remove=["mine.txt", "train-00000.safetensors"])
    before = all_files(folder)
    with pytest.raises(CallError) as caught:
        EDITS[command](folder)
    assert str(caught.value) == (
        f"{folder} holds an interrupted edit that was not begun here by you, and that would remove or replace 3 files; "
        f"if you trust where the folder comes from, `cdl repair {folder} --finish-edit` completes it"
    )
    assert {name: data for name, data in all_files(folder).items() if "locks/" not in name} == before
    assert repair(folder, finish_edit=True).edit_ended
    assert not (folder / "mine.txt").exists()
    assert not (folder / "_work").exists()


def test_an_edit_of_ones_own_is_completed_also_in_a_folder_that_was_moved(folder, tmp_path, monkeypatch):
    interrupt_edit(folder, monkeypatch)
    folder.rename(tmp_path / "moved")
    assert repair(tmp_path / "moved").edit_ended
    assert verify(tmp_path / "moved", full=True).problems == []


def test_an_edit_of_another_user_or_machine(folder, tmp_path, monkeypatch):
    interrupt_edit(folder, monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state of another"))
    with pytest.raises(CallError, match="was not begun here by you"):
        drop(folder, ["0 0.jpg"])
    assert run(["repair", str(folder)]) == 2
    assert run(["repair", str(folder), "--finish-edit"]) == 0
    assert verify(folder, full=True).problems == []
    assert (tmp_path / "state of another/walloc-cdl/key").stat().st_mode & 0o077 == 0


def test_a_record_that_was_changed(folder, monkeypatch):
    interrupt_edit(folder, monkeypatch)
    path = folder / "_work/edit.json"
    fields = parse_json_with_digest(path.read_bytes(), origin="record")
    path.write_bytes(encode_json_with_digest({**fields, "remove": [*fields["remove"], "mine.txt"]}))
    with pytest.raises(CallError, match="was not begun here by you"):
        repair(folder)


def test_without_a_home_folder_one_is_asked(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    interrupt_edit(folder, monkeypatch)
    with pytest.raises(CallError, match="was not begun here by you"):
        repair(folder)
    assert repair(folder, finish_edit=True).edit_ended


def test_a_restart_from_elsewhere_is_not_completed_unasked(photos, tmp_path):
    out = tmp_path / "out"
    prepare(open_source(str(photos)), CODEC, out, SMALL)
    (out / "_work").mkdir()
    (out / "manifest.json").rename(out / "_work/discarded.json")
    before = all_files(out)
    with pytest.raises(CallError, match=r"holds a data set that --restart has begun to remove; give --restart again"):
        prepare(open_source(str(photos)), CODEC, out, SMALL)
    assert all_files(out) == before
    prepare(open_source(str(photos)), CODEC, out, replace(SMALL, restart=True))
    assert verify(out, full=True).problems == []


def test_verify_names_links(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    shutil.move(folder / "ledger.parquet", tmp_path / "ledger")
    links = {"ledger.parquet": "../ledger", "y": "../elsewhere", "copy/z": "nowhere", "_work/x": "../../elsewhere"}
    (folder / "_work").mkdir()
    for name, target in links.items():
        (folder / name).symlink_to(target)
    assert sorted(verify(folder).problems) == sorted(
        f"{folder}/{name}: a link to {target!r}, expected the file or folder itself; remove the link, or put what it "
        "leads to in its place"
        for name, target in links.items()
    )
    shutil.rmtree(folder / "_work")
    (folder / "manifest.json").write_bytes(b"")
    assert f"{folder}/y: a link to '../elsewhere', expected" in "\n".join(verify(folder).problems)


def test_the_way_to_a_data_set_may_have_links(folder, tmp_path):
    (tmp_path / "alias").symlink_to("set")
    drop(tmp_path / "alias", ["0 0.jpg"])
    take_split(tmp_path / "alias", "train", tmp_path / "alias of out")
    assert load_manifest(folder).splits["train"].num_samples == 4
    assert verify(tmp_path / "alias", full=True).problems == []


def test_the_work_folder_of_an_address(photos, tmp_path):
    address, work = "memory://bucket/flowers", tmp_path / "work"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/precious.txt").write_text("precious")
    for name in ("set", "put"):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        (work / "address").write_text(address)
        (work / name).symlink_to(tmp_path / "elsewhere")
        for config in (SMALL, replace(SMALL, restart=True)):
            with pytest.raises(CallError, match=f"work/{name} is a link to "):
                prepare_to(open_source(str(photos)), CODEC, address, config, work=work)
    assert all_files(tmp_path / "elsewhere") == {"precious.txt": b"precious"}


def test_files_of_single_signals(tmp_path):
    codec = load_codec("resize-rgb-16x")
    for name in ("a.png", "deep/b.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "in" / name)
    for folder in ("elsewhere", "out"):
        (tmp_path / folder).mkdir()
    (tmp_path / "out/deep").symlink_to(tmp_path / "elsewhere")
    report = encode_files(tmp_path / "in", tmp_path / "out", codec, container="png")
    (reason,) = report.failures.values()
    assert "out/deep is a link to " in reason
    assert not os.listdir(tmp_path / "elsewhere")
    (tmp_path / "out/deep").unlink()
    assert not encode_files(tmp_path / "in", tmp_path / "out", codec, container="png").failures
    (tmp_path / "back").mkdir()
    (tmp_path / "back/deep").symlink_to(tmp_path / "elsewhere")
    assert len(decode_files(tmp_path / "out", tmp_path / "back", codec).failures) == 1
    assert not os.listdir(tmp_path / "elsewhere")


def test_the_cache_of_remote_files(tmp_path):
    cache, elsewhere = FileCache(tmp_path / "cache", 10), tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("ab" + "0" * 62, "precious.txt"):
        (elsewhere / name).write_bytes(b"precious")
    before = all_files(elsewhere)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/ab").symlink_to(elsewhere)
    cache.make_room(10)
    with pytest.raises(CallError, match="cache/ab is a link to "):
        cache.fetch("ab" + "0" * 62, 8, lambda file: None)
    (tmp_path / "cache/cd").mkdir()
    (tmp_path / "cache/cd" / ("cd" + "0" * 62)).symlink_to(elsewhere / "precious.txt")
    path = cache.fetch("cd" + "0" * 62, 8, lambda file: file.write(b"verified") and None)
    assert path.read_bytes() == b"verified"
    assert all_files(elsewhere) == before


def test_run_and_codec_folders(tmp_path):
    """Their files lie side by side, so that a link is replaced or removed itself."""
    folder, elsewhere = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "elsewhere")
    elsewhere.claim({"seed": 1}, resume=False)
    for path in (elsewhere.record_path, elsewhere.weights_path, elsewhere.checkpoint_path):
        path.write_text("precious")
    before = all_files(elsewhere.path)
    folder.path.mkdir()
    for name in before:
        (folder.path / name).symlink_to(elsewhere.path / name)
    folder.claim({"seed": 2}, resume=False)
    assert os.listdir(folder.path) == ["config.json"]
    assert folder.load_config() == {"seed": 2}
    (tmp_path / "codec").mkdir()
    for name in FILE_NAMES:
        (tmp_path / "codec" / name).symlink_to(elsewhere.config_path)
    write_codec_files(tmp_path / "codec", CODEC.files())
    assert all_files(tmp_path / "codec") == CODEC.files()
    assert all_files(elsewhere.path) == before


@pytest.mark.parametrize("name", ["latents", "runs"])
def test_comparisons(photos, tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / name).symlink_to(tmp_path / "elsewhere")
    config = CompareConfig(str(photos), conditions=("pixels-16",), model="test_resnet", size=16, workers=0)
    with pytest.raises(CallError, match=f"out/{name} is a link to "):
        compare(config, tmp_path / "out")
    assert not os.listdir(tmp_path / "elsewhere")
