from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

from datasets_prep import IterableSource, PrepareConfig, open_source, prepare
from tests.support.pictures import picture
from tests.support.trees import contents
from walloc_cdl import files
from walloc_cdl.codec import ResizeCodec, ResizeConfig
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.latents import verify

SMALL = PrepareConfig(size=32, shard_samples=5, workers=0)
SIX_SHARDS = 6


class StopError(Exception):
    """Raised to interrupt a job."""


@pytest.fixture
def source(make_folder):
    root = make_folder()
    (root / "train/dog/01.png").write_bytes(b"-")
    return open_source(str(root))


@pytest.fixture
def undisturbed(source, rgb_codec, tmp_path):
    prepare(source, rgb_codec, tmp_path / "undisturbed", SMALL)
    return contents(tmp_path / "undisturbed")


def stop_after(calls):
    """Return a progress callback that stops the job at its `calls`-th report of decoded samples."""
    seen = []

    def callback(progress):
        if progress.finished is None and progress.done:
            seen.append(progress)
            if len(seen) == calls:
                raise StopError

    return callback


def notes_of(*arguments):
    notes = []
    prepare(*arguments, progress=lambda progress: notes.append(progress.note))
    return [note for note in notes if note]


def test_interrupted_after_any_shard(source, rgb_codec, undisturbed, tmp_path):
    for done in range(SIX_SHARDS + 1):
        out = tmp_path / f"out{done}"
        with pytest.raises(StopError):
            prepare(source, rgb_codec, out, SMALL, progress=stop_after(done + 1))
        assert not (out / "manifest.json").exists()
        notes = notes_of(source, rgb_codec, out, SMALL)
        assert notes[0].startswith(f"resumed: {done} of 6 shards are done" if done else "fitting")
        assert contents(out) == undisturbed


def test_interrupted_at_any_write(source, rgb_codec, undisturbed, tmp_path, monkeypatch):
    """Each write fails once: plan, six shards with rows and records, four files, provenance, copies, and manifest."""
    rename = os.replace
    for failing in range(1 + 3 * SIX_SHARDS + 4 + 1 + 6 + 1):
        out = tmp_path / f"out{failing}"
        renamed = []

        def failing_rename(before, after, renamed=renamed, failing=failing, **options):
            if len(renamed) == failing:
                raise StopError
            renamed.append(after)
            rename(before, after, **options)

        with monkeypatch.context() as patch:
            patch.setattr(files.os, "replace", failing_rename)
            with pytest.raises(StopError):
                prepare(source, rgb_codec, out, SMALL)
        assert not (out / "manifest.json").exists()
        prepare(source, rgb_codec, out, SMALL)
        assert contents(out) == undisturbed
        assert not (out / "_work").exists()


@pytest.mark.parametrize("slices", [False, True])
def test_shards_of_another_plan_are_made_again(source, rgb_codec, undisturbed, tmp_path, slices):
    """Their records are whole, and their files as large as they should be."""
    other, out = tmp_path / "other", tmp_path / "out"
    with pytest.raises(StopError):
        prepare(source, rgb_codec, other, replace(SMALL, resize="box"), progress=stop_after(4))
    with pytest.raises(StopError):
        prepare(source, rgb_codec, out, SMALL, progress=stop_after(1))
    for path in (*other.glob("*.safetensors"), *other.glob("_work/train-*")):
        shutil.copy(path, out / path.relative_to(other))
    assert len(list(out.glob("_work/train-*.json"))) == 3
    if slices:
        prepare(source, rgb_codec, out, replace(SMALL, shards="1/2"))
        prepare(source, rgb_codec, out, replace(SMALL, shards="2/2"))
    prepare(source, rgb_codec, out, replace(SMALL, finish=slices))
    assert contents(out) == undisturbed


def test_shards_of_another_plan_of_a_stream_are_made_again(rgb_codec, tmp_path):
    pairs = [(picture(number, 44, 36), number % 2) for number in range(12)]
    stream = IterableSource(pairs, name="p", class_names=["a", "b"])
    other, out = tmp_path / "other", tmp_path / "out"
    prepare(stream, rgb_codec, tmp_path / "undisturbed", SMALL)
    for folder, config in ((other, replace(SMALL, resize="box")), (out, SMALL)):
        with pytest.raises(StopError):
            prepare(stream, rgb_codec, folder, config, progress=stop_after(3 if folder == other else 1))
    for path in (*other.glob("*.safetensors"), *other.glob("_work/train-*"), *other.glob("_work/kept/*")):
        shutil.copy(path, out / path.relative_to(other))
    assert list(out.glob("_work/train-*.json"))
    prepare(stream, rgb_codec, out, SMALL)
    assert contents(out) == contents(tmp_path / "undisturbed")


def test_interrupted_twice_and_by_ctrl_c(source, rgb_codec, undisturbed, tmp_path):
    def ctrl_c(progress):
        if progress.done > 12:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(StopError):
        prepare(source, rgb_codec, out, SMALL, progress=stop_after(2))
    with pytest.raises(KeyboardInterrupt):
        prepare(source, rgb_codec, out, PrepareConfig(size=32, shard_samples=5, workers=1), progress=ctrl_c)
    prepare(source, rgb_codec, out, SMALL)
    assert contents(out) == undisturbed


@pytest.fixture
def stopped(source, rgb_codec, tmp_path):
    """The folder of a job that was stopped in its fourth shard."""
    with pytest.raises(StopError):
        prepare(source, rgb_codec, tmp_path / "out", SMALL, progress=stop_after(4))
    return tmp_path / "out"


def test_missing_and_truncated_shards_are_made_again(source, rgb_codec, stopped, undisturbed):
    (stopped / "train-00000.safetensors").unlink()
    with (stopped / "train-00001.safetensors").open("r+b") as file:
        file.truncate(100)
    assert notes_of(source, rgb_codec, stopped, SMALL)[0] == "resumed: 1 of 6 shards are done"
    assert contents(stopped) == undisturbed


def test_damaged_records_are_ignored(source, rgb_codec, stopped, undisturbed):
    record = stopped / "_work/train-00001.json"
    record.write_text(record.read_text().replace('"num_samples":4', '"num_samples":5'))
    (stopped / "_work/train-00000.json").write_text("{")
    assert notes_of(source, rgb_codec, stopped, SMALL)[0] == "resumed: 1 of 6 shards are done"
    assert contents(stopped) == undisturbed


def test_temporary_files_of_a_killed_writer_are_removed(source, rgb_codec, stopped, undisturbed):
    (stopped / ".train-00003.safetensors.0123456789abcdef.tmp").write_bytes(b"-")
    prepare(source, rgb_codec, stopped, SMALL)
    assert contents(stopped) == undisturbed


def test_killed_before_its_plan_was_written(source, rgb_codec, undisturbed, tmp_path):
    (tmp_path / "out/_work").mkdir(parents=True)
    (tmp_path / "out/_work/.plan.json.0123456789abcdef.tmp").write_bytes(b"-")
    prepare(source, rgb_codec, tmp_path / "out", SMALL)
    assert contents(tmp_path / "out") == undisturbed


def test_killed_after_the_manifest(source, rgb_codec, undisturbed, tmp_path):
    prepare(source, rgb_codec, tmp_path / "out", SMALL)
    (tmp_path / "out/_work").mkdir()
    (tmp_path / "out/_work/train-00000.json").write_bytes(b"{}")
    assert notes_of(source, rgb_codec, tmp_path / "out", SMALL) == [
        f"{tmp_path / 'out'} is already finished; nothing to do"
    ]
    assert contents(tmp_path / "out") == undisturbed


def refusal(*arguments):
    with pytest.raises(CallError) as caught:
        prepare(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_plan_is_refused(source, rgb_codec, stopped, make_folder):
    before = sorted(path.name for path in stopped.rglob("*"))
    assert refusal(source, rgb_codec, stopped, PrepareConfig(size=36, shard_samples=5)) == (
        f"{stopped} holds an unfinished job with preprocessing.size 32, but this call has 36; "
        "give another folder, or --restart to remove what is there and start over"
    )
    other = open_source(str(make_folder("other")))
    assert "source.name 'photos', but this call has 'other'" in refusal(other, rgb_codec, stopped, SMALL)
    half = ResizeCodec(ResizeConfig(channels=3, factor=2))
    assert "an unfinished job with codec.codec_id '" in refusal(source, half, stopped, SMALL)
    batch = PrepareConfig(size=32, shard_samples=5, batch=8)
    assert "engine.batch 32, but this call has 8" in refusal(source, rgb_codec, stopped, batch)
    assert sorted(path.name for path in stopped.rglob("*")) == before


def test_other_versions_are_refused_for_an_unfinished_job_only(source, rgb_codec, stopped, undisturbed, monkeypatch):
    from datasets_prep.samples import preparation

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "version", lambda name: "0.0")
        text = refusal(source, rgb_codec, stopped, SMALL)
        assert "engine.versions.numpy '" in text
        assert "but this call has '0.0'" in text
    prepare(source, rgb_codec, stopped, SMALL)
    monkeypatch.setattr(preparation, "version", lambda name: "0.0")
    assert "already finished" in notes_of(source, rgb_codec, stopped, SMALL)[0]


def test_a_changed_source_is_refused(source, rgb_codec, stopped, make_folder, tmp_path):
    picture(99).save(tmp_path / "photos/train/cat/00.png")
    changed = open_source(str(tmp_path / "photos"))
    assert "an unfinished job with source.fingerprint '" in refusal(changed, rgb_codec, stopped, SMALL)


def test_a_finished_data_set_is_never_overwritten_unless_asked(source, rgb_codec, undisturbed, tmp_path):
    out = tmp_path / "undisturbed"
    text = refusal(source, rgb_codec, out, PrepareConfig(size=36, shard_samples=5))
    assert "holds a finished data set with preprocessing.size 32, but this call has 36" in text
    assert contents(out) == undisturbed
    prepare(source, rgb_codec, out, PrepareConfig(size=36, shard_samples=9, workers=0, restart=True))
    assert verify(out, full=True).problems == []
    assert len(list(out.glob("*.safetensors"))) == 4
    assert not (out / "_work").exists()


def test_restart_starts_an_unfinished_job_over(source, rgb_codec, stopped):
    (stopped / "notes.txt").write_text("mine")
    prepare(source, rgb_codec, stopped, PrepareConfig(size=36, workers=0, restart=True))
    assert sorted(path.name for path in stopped.glob("*.safetensors")) == [
        "test-00000.safetensors",
        "train-00000.safetensors",
    ]
    assert (stopped / "notes.txt").read_text() == "mine"


def test_restart_stays_inside_the_folder(source, rgb_codec, stopped, tmp_path):
    from dataclasses import replace

    from datasets_prep.job.plan import load_plan, save_plan
    from datasets_prep.samples.planned_shard import PlannedShard

    precious = tmp_path / "precious.safetensors"
    precious.write_text("mine")
    plan = load_plan(stopped / "_work")
    save_plan(stopped / "_work", replace(plan, shards=(PlannedShard("../precious.safetensors", "train", 0, 1),)))
    prepare(source, rgb_codec, stopped, PrepareConfig(size=32, workers=0, restart=True))
    assert precious.read_text() == "mine"


def test_foreign_folders_are_refused(source, rgb_codec, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("-")
    for config in (SMALL, PrepareConfig(size=32, restart=True)):
        assert refusal(source, rgb_codec, foreign, config) == (
            f"output folder '{foreign}' holds 'thesis.tex', which is neither a data set nor an unfinished job; "
            "give a new or empty folder"
        )
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]
    (tmp_path / "other/_work").mkdir(parents=True)
    (tmp_path / "other/_work/mine.txt").write_text("-")
    assert "holds '_work/mine.txt'" in refusal(source, rgb_codec, tmp_path / "other", SMALL)
    (tmp_path / "file").write_text("-")
    assert refusal(source, rgb_codec, tmp_path / "file", SMALL).endswith("is a file; give a new or empty folder")


def test_a_damaged_plan_is_reported(source, rgb_codec, stopped):
    (stopped / "_work/plan.json").write_text("{}")
    with pytest.raises(DamagedError, match=r"plan.json: has no digest"):
        prepare(source, rgb_codec, stopped, SMALL)
