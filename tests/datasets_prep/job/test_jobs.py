"""Slices of jobs, locks, limits for unusable samples, duplicates, drift and forecasts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep import forecast as forecasts
from datasets_prep.folders import locks
from datasets_prep.forecast import forecast
from datasets_prep.job import plan
from datasets_prep.ledger import duplicates
from datasets_prep.sources.core.splits import SubsetSource
from tests.support.pictures import picture
from tests.support.trees import all_files, contents
from walloc_cdl import file_locks, files
from walloc_cdl.cli.contents import contents as report_rows
from walloc_cdl.cli.contents import strays_text
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.latents import load_manifest, load_provenance, verify

SMALL = PrepareConfig(size=32, shard_samples=5, workers=0)


def ledger(folder: Path) -> list[dict]:
    return pq.read_table(folder / "ledger.parquet").to_pylist()


@pytest.fixture
def source(make_folder):
    root = make_folder()
    (root / "train/dog/01.png").write_bytes(b"-")
    return open_source(str(root))


def test_slices_and_finish_give_the_bytes_of_one_job(source, rgb_codec, tmp_path):
    prepare(source, rgb_codec, tmp_path / "whole", SMALL)
    for number in (3, 1, 2):
        with pytest.raises(JobError, match=r"of 6 shards are missing \((train|test)-0000., *|train"):
            prepare(source, rgb_codec, tmp_path / "sliced", replace(SMALL, finish=True))
        assert prepare(source, rgb_codec, tmp_path / "sliced", replace(SMALL, shards=f"{number}/3")) is None
        assert not (tmp_path / "sliced/manifest.json").exists()
    prepare(source, rgb_codec, tmp_path / "sliced", replace(SMALL, finish=True))
    assert contents(tmp_path / "sliced") == contents(tmp_path / "whole")
    assert load_provenance(tmp_path / "sliced")["num_encoded"] == 0


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3"])
def test_impossible_slices_are_refused(text):
    with pytest.raises(CallError, match="expected i/n with 1 ≤ i ≤ n, such as 3/16"):
        PrepareConfig(shards=text)


def test_contradictory_settings_are_refused():
    with pytest.raises(CallError, match="first run all slices, then --finish"):
        PrepareConfig(shards="1/2", finish=True)
    with pytest.raises(CallError, match="would remove the shards of other slices"):
        PrepareConfig(shards="1/2", restart=True)
    with pytest.raises(CallError, match=r"max_bad is 1\.5; expected a share"):
        PrepareConfig(max_bad=1.5)


def test_a_second_job_is_refused_and_names_the_holder(source, rgb_codec, tmp_path):
    work = tmp_path / "out/_work"
    with locks.job_lock(work), pytest.raises(CallError) as refused:
        prepare(source, rgb_codec, tmp_path / "out", SMALL)
    assert "out is being worked on by process " in str(refused.value)
    assert "since 20" in str(refused.value)
    prepare(source, rgb_codec, tmp_path / "out", SMALL)
    assert not work.exists()


def test_a_data_set_finished_by_another_process_before_the_lock_is_kept(source, rgb_codec, tmp_path, monkeypatch):
    out, job_lock = tmp_path / "out", locks.job_lock

    @contextmanager
    def late(work):
        with monkeypatch.context() as patch:
            patch.setattr(locks, "job_lock", job_lock)
            prepare(source, rgb_codec, out, SMALL)
        kept.update(all_files(out))
        with job_lock(work):
            yield

    kept = {}
    monkeypatch.setattr(locks, "job_lock", late)
    notes = []
    manifest = prepare(source, rgb_codec, out, SMALL, progress=lambda state: notes.append(state.note))
    assert notes == [f"{out} is already finished; nothing to do"]
    assert manifest.to_json() == load_manifest(out).to_json()
    assert all_files(out) == kept
    shutil.rmtree(out)
    with pytest.raises(CallError, match=r"finished data set with preprocessing.shard_samples 5, but this call has 4"):
        prepare(source, rgb_codec, out, replace(SMALL, shard_samples=4))
    assert load_manifest(out).to_json() == manifest.to_json()


def test_the_work_folder_of_a_running_edit_is_not_changed(source, rgb_codec, tmp_path):
    out, work = tmp_path / "out", tmp_path / "out/_work"
    prepare(source, rgb_codec, out, SMALL)
    with locks.job_lock(work):
        (work / "edit").mkdir()
        (work / "edit/train-00000.safetensors").write_bytes(b"half of it")
        with pytest.raises(CallError, match=r"out is being worked on by process"):
            prepare(source, rgb_codec, out, SMALL)
        assert (work / "edit/train-00000.safetensors").is_file()
    assert prepare(source, rgb_codec, out, SMALL) is not None  # the edit was killed: its stage is a leftover
    assert not work.exists()


def test_a_lock_file_that_its_holder_removed_is_created_again(tmp_path, monkeypatch):
    path, lock = tmp_path / "_work/locks/job.lock", file_locks.lock

    def removed(file, **options):
        monkeypatch.setattr(file_locks, "lock", lock)
        path.unlink()
        return lock(file, **options)

    monkeypatch.setattr(file_locks, "lock", removed)
    with locks.job_lock(tmp_path / "_work"):
        assert path.is_file()
        with pytest.raises(CallError, match="being worked on"), locks.job_lock(tmp_path / "_work"):
            pass


def test_a_slice_blocks_only_itself_and_the_whole_job(source, rgb_codec, tmp_path):
    out, work = tmp_path / "out", tmp_path / "out/_work"
    with locks.slice_lock(work, "1-of-2"):
        prepare(source, rgb_codec, out, replace(SMALL, shards="2/2"))
        for config in (replace(SMALL, shards="1/2"), SMALL, replace(SMALL, finish=True)):
            with pytest.raises(CallError, match=r"is being worked on by process \d+ on \S+ since \S+; wait"):
                prepare(source, rgb_codec, out, config)


def test_the_lock_of_a_killed_process_is_free(source, rgb_codec, tmp_path):
    holder = "import sys, time\nfrom pathlib import Path\nfrom datasets_prep.folders import locks\n"
    holder += "with locks.job_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    process = subprocess.Popen([sys.executable, "-c", holder, tmp_path / "out/_work"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(CallError, match=f"worked on by process {process.pid} on"):
        prepare(source, rgb_codec, tmp_path / "out", SMALL)
    process.kill()
    process.wait()
    process.stdout.close()
    prepare(source, rgb_codec, tmp_path / "out", SMALL)


def test_too_many_bad_samples_fail_the_job_which_can_be_resumed(source, rgb_codec, tmp_path):
    with pytest.raises(JobError, match=r"1 of the first \d+ samples cannot be used, more than 0.04 of all 24"):
        prepare(source, rgb_codec, tmp_path / "out", replace(SMALL, max_bad=0.04))
    prepare(source, rgb_codec, tmp_path / "out", replace(SMALL, max_bad=0.05))
    prepare(source, rgb_codec, tmp_path / "plain", SMALL)
    assert contents(tmp_path / "out") == contents(tmp_path / "plain")


def test_samples_of_a_missing_source_are_not_quarantined(make_folder, rgb_codec, tmp_path):
    root = make_folder()
    source = open_source(str(root))

    def vanish(progress):
        if progress.finished and root.exists():
            root.rename(tmp_path / "elsewhere")

    with pytest.raises(JobError, match=r"photos' is missing; restore it and run the same command again"):
        prepare(source, rgb_codec, tmp_path / "out", SMALL, progress=vanish)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 2  # one more was decoded by then
    (tmp_path / "elsewhere").rename(root)
    manifest = prepare(open_source(str(root)), rgb_codec, tmp_path / "out", SMALL)
    assert manifest.ledger["num_quarantined"] == 0


@pytest.fixture
def copies(make_folder):
    """Copies within a class, across classes, across splits, and of a file that is not an image."""
    root = make_folder()
    shutil.copy(root / "train/cat/00.png", root / "train/cat/copy.png")
    shutil.copy(root / "train/cat/00.png", root / "train/dog/copy.png")
    shutil.copy(root / "train/dog/05.png", root / "test/dog/copy.png")
    for name in ("train/cat/bad1.png", "train/cat/bad2.png"):
        (root / name).write_bytes(b"no image")
    return open_source(str(root))


@pytest.mark.parametrize("pass_rows", [1 << 24, 4])
def test_duplicates_are_marked(copies, rgb_codec, tmp_path, monkeypatch, pass_rows):
    monkeypatch.setattr(duplicates, "PASS_ROWS", pass_rows)
    manifest = prepare(copies, rgb_codec, tmp_path / "out", SMALL)
    found = {row["key"]: row["duplicate_of"] for row in ledger(tmp_path / "out") if row["duplicate_of"]}
    assert found == {
        "train/cat/copy.png": "train/train/cat/00.png",
        "train/dog/copy.png": "train/train/cat/00.png",
        "test/dog/copy.png": "train/train/dog/05.png",
    }
    assert manifest.ledger["num_duplicates"] == 3
    assert manifest.ledger["num_duplicates_across_splits"] == 1
    assert manifest.ledger["num_duplicates_of_other_label"] == 1
    assert manifest.ledger["num_stored"] == 27


def test_duplicates_can_be_dropped(copies, rgb_codec, tmp_path):
    config = replace(SMALL, drop_duplicates=True)
    manifest = prepare(copies, rgb_codec, tmp_path / "out", config)
    assert verify(tmp_path / "out", full=True).problems == []
    assert manifest.splits["train"].class_counts == [6, 6]
    assert manifest.splits["test"].class_counts == [6, 6]
    assert manifest.ledger["reasons"]["duplicate"] == 3
    assert manifest.ledger["num_quarantined"] == 2
    rows = [row for row in ledger(tmp_path / "out") if row["shard"] is not None]
    for entry in manifest.shards:
        assert [row["row"] for row in rows if row["shard"] == entry.name] == list(range(entry.num_samples))
    assert manifest.preprocessing["duplicates"] == "left out"
    with pytest.raises(CallError, match=r"preprocessing.duplicates 'left out', but this call has 'kept'"):
        prepare(copies, rgb_codec, tmp_path / "out", SMALL)


def test_dropping_duplicates_can_be_interrupted_at_any_write(copies, rgb_codec, tmp_path, monkeypatch):
    config = replace(SMALL, drop_duplicates=True)
    rename, renamed = os.replace, []

    def counted_rename(before, after, **options):
        if len(renamed) == failing:
            raise RuntimeError("stop")
        renamed.append(after)
        rename(before, after, **options)

    monkeypatch.setattr(files.os, "replace", counted_rename)
    failing = 1000
    prepare(copies, rgb_codec, tmp_path / "undisturbed", config)
    for failing in range(20, len(renamed)):
        out = tmp_path / f"out{failing}"
        renamed.clear()
        with pytest.raises(RuntimeError):
            prepare(copies, rgb_codec, out, config)
        failing = 1000
        prepare(copies, rgb_codec, out, config)
        assert contents(out) == contents(tmp_path / "undisturbed")


def test_allowed_drift_of_versions_is_recorded_in_the_provenance(source, rgb_codec, tmp_path, monkeypatch):
    prepare(source, rgb_codec, tmp_path / "out", replace(SMALL, shards="1/2"))
    saved = plan.load_plan(tmp_path / "out/_work")
    versions = {**saved.engine["versions"], "pillow": "1.0"}
    older = replace(saved, engine={**saved.engine, "versions": versions})
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out/_work").mkdir(parents=True)
    plan.save_plan(tmp_path / "out/_work", older)
    with pytest.raises(CallError, match=r"engine.versions.pillow '1.0', but this call has"):
        prepare(source, rgb_codec, tmp_path / "out", SMALL)
    prepare(source, rgb_codec, tmp_path / "out", replace(SMALL, allow_drift=True))
    provenance = load_provenance(tmp_path / "out")
    assert provenance["drift"] == [["versions.pillow", "1.0", saved.engine["versions"]["pillow"]]]
    assert "drift" in json.dumps(provenance)
    prepare(source, rgb_codec, tmp_path / "plain", SMALL)
    assert contents(tmp_path / "out") == contents(tmp_path / "plain")
    assert load_provenance(tmp_path / "plain")["drift"] == []


def test_a_forecast_is_accurate_and_writes_nothing(source, rgb_codec, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    expected = forecast(source, rgb_codec, SMALL)
    assert sorted(tmp_path.rglob("*")) == before
    manifest = prepare(source, rgb_codec, tmp_path / "out", SMALL)
    assert expected.num_samples == {"train": 12, "test": 12}
    assert expected.num_shards == len(manifest.shards)
    assert expected.fingerprint == manifest.source["fingerprint"]
    assert expected.num_bad == 1
    actual = sum(entry.num_bytes for entry in manifest.shards)
    assert actual <= expected.shard_bytes <= 1.5 * actual
    assert expected.time_s > 0


def test_a_forecast_of_a_source_with_an_empty_split(source, rgb_codec):
    rows = {"train": ("train", np.arange(5)), "extra": ("train", np.arange(0))}
    expected = forecast(SubsetSource(source, rows), rgb_codec, SMALL)
    assert expected.num_samples == {"train": 5, "extra": 0}
    assert expected.num_measured == 5


def test_a_forecast_refuses_an_engine_that_the_job_would_refuse(source, rgb_codec):
    with pytest.raises(CallError, match="unknown engine 'slurm'"):
        forecast(source, rgb_codec, replace(SMALL, engine="slurm"))


def test_shards_are_reported_as_they_are_done(source, rgb_codec, tmp_path):
    seen = []
    prepare(source, rgb_codec, tmp_path / "out", SMALL, progress=seen.append)
    finished = [state.finished.entry.name for state in seen if state.finished]
    assert finished == [entry.name for entry in load_manifest(tmp_path / "out").shards]
    assert seen[-1].source_bytes == sum(row["num_bytes"] for row in ledger(tmp_path / "out"))


def test_content_hashes_are_those_of_the_files(tmp_path, rgb_codec):
    (tmp_path / "photos").mkdir()
    picture(1, 40, 40).save(tmp_path / "photos/a.png")
    prepare(open_source(str(tmp_path / "photos")), rgb_codec, tmp_path / "out", SMALL)
    assert ledger(tmp_path / "out")[0]["sha256"] == hashlib.sha256((tmp_path / "photos/a.png").read_bytes()).hexdigest()


def test_a_forecast_includes_the_end_of_the_job(make_folder, rgb_codec, monkeypatch):
    """The synthesis takes 2 s for the 16 samples that are measured; the job fits it to all 60."""
    now = [0.0]

    def fit(codec, batches):
        assert sum(map(len, batches)) == 16
        now[0] += 2.0

    monkeypatch.setattr(forecasts, "fit_synthesis", fit)
    monkeypatch.setattr(forecasts, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    source = open_source(str(make_folder(splits=("train",), each=30)))
    assert forecast(source, rgb_codec, SMALL).time_s == pytest.approx(2.0 * 60 / 16)
    assert forecast(source, rgb_codec, SMALL, start_s=3.0).time_s == pytest.approx(2.0 * 60 / 16 + 3)


def test_strays_are_counted_apart_by_forecasts_and_reports(make_folder, rgb_codec, tmp_path):
    root = make_folder()
    (root / "train/dog/01.png").write_bytes(b"-")
    for name in ("notes.txt", "more.doc"):
        (root / "train/dog" / name).write_text("not a sample")
    source = open_source(str(root))
    assert forecast(source, rgb_codec, SMALL).num_strays == 2
    rows = report_rows(prepare(source, rgb_codec, tmp_path / "out", SMALL))
    assert rows["strays"] == strays_text(2) == "2 files that are not samples"
    assert rows["quarantined"] == "1 unusable samples, with the reasons in ledger.parquet"
