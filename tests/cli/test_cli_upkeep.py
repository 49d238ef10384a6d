"""`cdl repair`, `drop`, `merge` and `split`: what they print, their exit codes, and their refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.trees import all_files
from walloc_cdl.latents import load_manifest, verify


@pytest.fixture
def copied(latents, tmp_path) -> Path:
    """A data set of 16 and 8 samples that may be changed."""
    shutil.copytree(latents, tmp_path / "set")
    return tmp_path / "set"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 2
    path.write_bytes(data)


def test_repair_from_copies_and_source(cdl, copied, source, tmp_path):
    before = all_files(copied)
    for name in ("manifest.json", "train-00000.safetensors", "copy/codec/config.json"):
        flip(copied / name)
    answer = cdl("repair", copied)
    assert answer.code == 1
    assert "train-00000.safetensors: damaged or missing; `cdl repair " in answer.out
    assert "damaged (1 problems)" in answer.out
    answer = cdl("repair", copied, "--source", source, "--workers", 0, "--json", tmp_path / "r.json")
    assert answer.code == 0
    assert json.loads((tmp_path / "r.json").read_text())["encoded"] == ["train-00000.safetensors"]
    assert all_files(copied) == before


def test_repair_refuses_another_source(refused, copied, source, tmp_path):
    (copied / "train-00000.safetensors").unlink()
    other = tmp_path / "other"
    shutil.copytree(source, other)
    (other / "train/cat/00.png").unlink()
    text = refused("repair", copied, "--source", other)
    assert "was made from another source: its source." in text
    assert "give the original source, with the same --labels, --holdout and --seed" in text


def test_repair_of_a_flat_folder_with_a_file_of_labels(cdl, refused, source, tmp_path):
    flat, labels, out = tmp_path / "flat", tmp_path / "labels.txt", tmp_path / "set"
    flat.mkdir()
    for label in ("cat", "dog"):
        for path in (source / "train" / label).iterdir():
            shutil.copy(path, flat / f"{label}-{path.name}")
    labels.write_text("".join(f"{path.name} {path.name[:3]}\n" for path in flat.iterdir()))
    cut = ("--labels", labels, "--holdout", 0.25, "--seed", 3)
    call = ("prepare", flat, "--codec", "rgb-16x", "--size", 64, "--workers", 0, "--out", out, *cut)
    assert cdl(*call).code == 0
    before = all_files(out)
    (out / "train-00000.safetensors").unlink()
    text = refused("repair", out, "--source", flat, "--workers", 0, *cut[2:])
    assert "give the original source, with the same --labels, --holdout and --seed" in text
    assert cdl("repair", out, "--source", flat, "--workers", 0, *cut).code == 0
    assert all_files(out) == before


def test_drop_by_keys_and_by_file(cdl, copied, tmp_path):
    (tmp_path / "keys.txt").write_text("train/cat/01.png\r\n\ntrain/dog/00.png\n")
    answer = cdl("drop", copied, "train/cat/00.png", "--keys", tmp_path / "keys.txt", "--json", tmp_path / "d.json")
    assert answer.code == 0
    figures = json.loads((tmp_path / "d.json").read_text())
    assert (figures["num_dropped"], figures["num_samples"]["train"]) == (3, 13)
    assert verify(copied, full=True).problems == []
    assert "dropped before  1" in cdl("drop", copied, "train/cat/00.png").out


def test_drop_refuses_unknown_keys_and_files(refused, copied, tmp_path):
    before = all_files(copied)
    text = refused("drop", copied, "train/cat/00.png", "train/cat/77.png")
    assert f"1 of 2 keys are not in {copied}: 'train/cat/77.png'; nothing was changed" in text
    text = refused("drop", copied, "--keys", tmp_path / "none.txt")
    assert f"--keys {tmp_path / 'none.txt'}: no such file; give single keys after DIR, without --keys" in text
    assert "no keys to drop; give some, or a file of them" in refused("drop", copied)
    assert all_files(copied) == before


def test_split_and_merge(cdl, copied, tmp_path):
    for name in ("train", "test"):
        assert cdl("split", copied, "--only", name, "--out", tmp_path / name).code == 0
    answer = cdl("split", tmp_path / "train", "--into", "train=75%,holdout=0.25")
    assert answer.code == 0
    assert "train     12 samples" in answer.out
    counts = {name: split.class_counts for name, split in load_manifest(tmp_path / "train").splits.items()}
    assert counts == {"train": [6, 6], "holdout": [2, 2]}
    answer = cdl("merge", tmp_path / "train", tmp_path / "test", "--out", tmp_path / "merged")
    assert answer.code == 0
    assert "test      8 samples" in answer.out
    assert verify(tmp_path / "merged", full=True).problems == []


def test_split_and_merge_refuse(refused, copied, prepared, tmp_path):
    out = tmp_path / "out"
    assert "give either --into, such as train=0.8,test=0.2, or --only" in refused("split", copied)
    assert "--only and --out belong together" in refused("split", copied, "--only", "train")
    assert "--into 'train'; expected different names with fractions" in refused("split", copied, "--into", "train")
    assert "name the one to divide with --split" in refused("split", copied, "--into", "a=0.5,b=0.5")
    assert "merging 1 data set; name two or more" in refused("merge", copied, "--out", out)
    text = refused("merge", copied, prepared("resize-rgb-16x"), "--out", out)
    assert f"{copied} has spec." in text
    assert "merge only data sets of the same kind of latents" in text
    assert "keys occur twice in split 'test'" in refused("merge", copied, copied, "--out", out)
    assert not out.exists()


@pytest.mark.parametrize("command", ["repair", "drop", "split", "merge"])
def test_a_folder_that_is_no_data_set(refused, foreign, latents, tmp_path, command):
    options = {
        "drop": ("a",),
        "split": ("--into", "a=0.5,b=0.5"),
        "merge": (latents, "--out", tmp_path / "out"),
    }.get(command, ())
    assert f"{foreign} is not a data set (it has no manifest.json)" in refused(command, foreign, *options)
    assert [path.name for path in foreign.iterdir()] == ["chapter.txt"]
