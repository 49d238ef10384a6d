"""Edits of finished data sets are atomic, whenever they are interrupted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.folders import locks
from datasets_prep.upkeep.drop import drop
from datasets_prep.upkeep.edit import editing, recover
from tests.support.any_sets import write_any_set
from tests.support.faults import KINDS, Faults, KilledError
from tests.support.small_sets import make_spec
from tests.support.trees import contents
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.latents import LabelSpec, SampleLayout, load_manifest, verify
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, parse_json_with_digest

KEYS = ("photo 0.jpg", "éphoto 1.jpg", "ééphoto 2.jpg", "photo 3.jpg", "broken.jpg")
LAYOUT = SampleLayout(make_spec(2), (2, 2, 3), LabelSpec("class", 3))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three shards; dropping the keys above empties the first and removes one sample of the second."""
    write_any_set(tmp_path / "set", LAYOUT, {"train": [3, 3], "test": [2]}, keys=keys_of())
    return tmp_path / "set"


def keys_of() -> dict[str, list[str]]:
    train = ["photo 0.jpg", "éphoto 1.jpg", "ééphoto 2.jpg", "photo 3.jpg", "éphoto 4.jpg", "ééphoto 5.jpg"]
    return {"train": train, "test": ["a.jpg", "b.jpg"]}


def edited(folder: Path) -> None:
    drop(folder, KEYS, split="train")


def nothing_temporary(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if path.name.startswith((".", "_"))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_after_any_interruption_the_same_call_completes_the_edit(folder, tmp_path, monkeypatch, kind, step):
    before = contents(folder)
    shutil.copytree(folder, tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        faults = Faults(patch, tmp_path / "undisturbed", kind)
        edited(tmp_path / "undisturbed")
    after, num_calls = contents(tmp_path / "undisturbed"), faults.num_calls
    assert num_calls > 60
    assert verify(tmp_path / "undisturbed", full=True).problems == []
    outcomes, num_failed = set(), 0
    for first in range(0, num_calls, step):
        out = tmp_path / f"out{first}"
        shutil.copytree(folder, out)
        with monkeypatch.context() as patch:
            faults = Faults(patch, out, kind)
            faults.first = first
            try:
                edited(out)
            except (KilledError, OSError, DamagedError):
                num_failed += 1
        outcomes.add(read(out, before, after))
        edited(out)
        assert contents(out) == after, first
        assert nothing_temporary(out), first
        shutil.rmtree(out)
    assert num_failed > 0.8 * num_calls / step  # an error of mkdir does not matter where the folder is there
    assert outcomes >= {"old", "interrupted"}
    assert "new" in outcomes or step > 1


def read(folder: Path, before: dict[str, bytes], after: dict[str, bytes]) -> str:
    """Return what a reader finds: "old", "new", or "interrupted"; fails for anything else."""
    try:
        load_manifest(folder)
    except DamagedError as error:
        refusal = str(error)
    else:
        names = {name for name in contents(folder) if not name.startswith("_work/") and ".tmp" not in name}
        data = {name: contents(folder)[name] for name in names}
        assert data in (before, after)
        return "old" if data == before else "new"
    assert refusal == f"an edit of {folder} was interrupted: run `cdl repair {folder}`"
    return "interrupted"


def test_interrupted_again_during_recovery(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "undisturbed")
    edited(tmp_path / "undisturbed")
    interrupted(folder, monkeypatch)
    kills = 0
    for first in range(0, 60, 3):
        with monkeypatch.context() as patch:
            faults = Faults(patch, folder, "killed")
            faults.first = first
            try:
                edited(folder)
            except KilledError:
                kills += 1
    edited(folder)
    assert kills > 4
    assert contents(folder) == contents(tmp_path / "undisturbed")
    assert nothing_temporary(folder)


def test_without_a_commit_nothing_changes(folder):
    before = contents(folder)
    with editing(folder) as edit:
        (edit.stage / "train-00000.safetensors").write_bytes(b"half")
    assert contents(folder) == before
    with pytest.raises(ZeroDivisionError), editing(folder) as edit:
        raise ZeroDivisionError
    assert contents(folder) == before


def test_a_locked_folder(folder):
    with locks.job_lock(folder / "_work"):
        (folder / "_work/edit").mkdir()
        with pytest.raises(CallError, match=r"is being worked on by process \d+ on "):
            edited(folder)
        assert (folder / "_work/edit").is_dir()


def test_an_unfinished_job_is_left_alone(folder):
    (folder / "_work").mkdir()
    (folder / "_work/plan.json").write_text("{}")
    with pytest.raises(CallError, match=r"holds an unfinished job \(_work/plan\.json\); end it first"):
        edited(folder)
    assert (folder / "_work/plan.json").read_text() == "{}"


def interrupted(folder: Path, monkeypatch) -> None:
    """Leave a committed edit of which only the removal of the manifest has been performed."""
    with monkeypatch.context() as patch:
        patch.setattr("datasets_prep.upkeep.edit._move_into_place", fail)
        with pytest.raises(KilledError):
            edited(folder)


def fail(*arguments: object) -> None:
    raise KilledError


def test_readers_of_an_interrupted_edit_and_its_recovery(folder, monkeypatch):
    interrupted(folder, monkeypatch)
    with pytest.raises(DamagedError, match=r"an edit of .* was interrupted: run `cdl repair "):
        open_latents(folder)
    (problem,) = verify(folder).problems
    assert "was interrupted: run `cdl repair" in problem
    assert recover(folder)
    assert verify(folder, full=True).problems == []
    assert not recover(folder)


def test_preparing_does_not_discard_an_edit(folder, monkeypatch, make_folder, rgb_codec):
    interrupted(folder, monkeypatch)
    source = open_source(f"imagefolder:{make_folder()}")
    for restart in (False, True):
        with pytest.raises(CallError, match=r"an edit of .* was interrupted: run `cdl repair .*` first"):
            prepare(source, rgb_codec, folder, PrepareConfig(size=32, workers=0, restart=restart))
    assert recover(folder)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("place", ["../precious"], "found '../precious', expected a plain relative file name"),
        ("clear", [".."], "found '..', expected a plain relative file name"),
        ("remove", ["/etc/passwd"], "found '/etc/passwd', expected a plain relative file name"),
        ("format_version", 2, "is not an edit of version 1; continue with the version that began it"),
        ("manifest_sha256", "0" * 64, "differs from the record"),
    ],
)
def test_a_forged_record_is_refused(folder, monkeypatch, field, value, message):
    interrupted(folder, monkeypatch)
    record = folder / "_work/edit.json"
    record.write_bytes(
        encode_json_with_digest({**parse_json_with_digest(record.read_bytes(), origin="r"), field: value})
    )
    with pytest.raises((CallError, DamagedError), match=message):
        recover(folder, trusted=True)
