"""Every call of the file system in a command that changes a data set fails once; the same command then completes it.

See `test_every_call` for what makes that affordable.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.upkeep.drop import drop
from datasets_prep.upkeep.encode_again import RepairConfig
from datasets_prep.upkeep.merge import merge
from datasets_prep.upkeep.repair import repair
from datasets_prep.upkeep.split import SplitConfig, split_in_place, take_split
from tests.support.every_call import RARELY, Completed, calls
from tests.support.faults import KINDS, Faults, KilledError
from tests.support.pictures import picture
from walloc_cdl.codec import ResizeCodec, ResizeConfig
from walloc_cdl.errors import CdlError
from walloc_cdl.latents import verify

CODEC = ResizeCodec(ResizeConfig(channels=3, factor=4, name="resize-rgb-16x"))
PLAIN = {"size": 16, "shard_samples": 3, "workers": 0}


@pytest.fixture(autouse=True)
def nothing_synced(monkeypatch):
    """These tests cut no power."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def add(photos: Path, name: str, seed: int) -> None:
    (photos / "train" / name).parent.mkdir(parents=True, exist_ok=True)
    picture(seed, 20, 18).save(photos / "train" / name)


@pytest.fixture
def prepared(tmp_path) -> Path:
    """A data set of six images in two shards, one of them unusable; its source `old/photos`, and the same grown."""
    photos = tmp_path / "photos"
    for number in range(6):
        add(photos, f"{('cat', 'dog')[number % 2]}/{number}.png", number)
    (photos / "train/dog/1.png").write_bytes(b"no image")
    prepare(open_source(str(photos)), CODEC, tmp_path / "set", PrepareConfig(**PLAIN))
    shutil.copytree(photos, tmp_path / "old/photos")
    shutil.copytree(tmp_path / "set", tmp_path / "more")
    add(photos, "dog/1.png", 7)
    add(photos, "emu/8.png", 8)
    return tmp_path / "set"


def damage(out: Path) -> None:
    (out / "train-00000.safetensors").unlink()
    (out / "manifest.json").write_bytes(b"-")
    (out / "copy/ledger.parquet").unlink()


def run_drop(out: Path) -> None:
    drop(out, ["train/cat/0.png", "train/dog/5.png"])


def run_split(out: Path) -> None:
    split_in_place(out, SplitConfig({"train": 0.6, "extra": 0.4}, "train"))


def run_extend(out: Path) -> None:
    prepare(open_source(str(out.parent / "photos")), CODEC, out, PrepareConfig(**PLAIN, extend=True))


def run_repair(out: Path) -> None:
    """Encode a shard again, restore other files, and try the unusable sample again."""
    result = repair(out, RepairConfig(open_source(str(out.parent / "old/photos")), workers=0))
    assert result.problems == []


def run_merge(out: Path) -> None:
    merge([out.parent / "set", out.parent / "more"], out, prefix=True)


def run_take_split(out: Path) -> None:
    take_split(out.parent / "set", "train", out)


EDITS: dict[str, Callable[[Path], None]] = {
    "drop": run_drop,
    "split": run_split,
    "extend": run_extend,
    "repair": run_repair,
}
COPIES: dict[str, Callable[[Path], None]] = {"merge": run_merge, "take a split": run_take_split}


def begin(name: str, prepared: Path, out: Path) -> None:
    """Make what the command starts from."""
    if name in EDITS:
        shutil.copytree(prepared, out)
    if name == "repair":
        damage(out)


@pytest.mark.parametrize("name", [*EDITS, *COPIES])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("thorough", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_edits(prepared, tmp_path, monkeypatch, name, kind, thorough):
    """If thorough, every call of each fails. Kills are made at every call."""
    run, undisturbed, out = {**EDITS, **COPIES}[name], tmp_path / "undisturbed", tmp_path / "out"
    step, number = 1 if thorough else 2 * RARELY, [*EDITS, *COPIES].index(name)
    begin(name, prepared, undisturbed)
    with monkeypatch.context() as patch:
        faults = Faults(patch, undisturbed, kind)
        run(undisturbed)
    completed, stops = Completed(lambda folder, _: run(folder), undisturbed), calls(faults, kind, step, number)
    errors: list[str] = []
    for first in stops:
        begin(name, prepared, out)
        whole = False
        with monkeypatch.context() as patch:
            faults = Faults(patch, out, kind)
            faults.first = first
            try:
                run(out)
                whole = True
            except KilledError:
                assert kind == "killed"
            except (CdlError, OSError) as error:
                errors.append(str(error))
        what = f"call {first}: {faults.failed}"
        assert faults.failed or (whole and first >= faults.num_calls), what  # a call more or less at the end
        if (out / "manifest.json").is_file() and name != "repair":  # never a mixture of old and new files
            assert verify(out, full=True).problems == [], what
        completed.check(out, 0, whole, what)
        shutil.rmtree(out, ignore_errors=True)
    assert not [error for error in errors if "\n" in error]
