"""`prepare` with `extend`: a data set that grows equals one that was made at once, and its shards stay as they are."""

from __future__ import annotations

import errno
import io
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from datasets_prep import PrepareConfig, holdout, open_source, prepare, prepare_to
from datasets_prep.forecast import forecast_extension
from datasets_prep.samples.locations import FetchError
from datasets_prep.samples.stored import ReadFailure
from datasets_prep.upkeep.drop import drop
from datasets_prep.upkeep.encode_again import RepairConfig
from datasets_prep.upkeep.repair import repair
from datasets_prep.upkeep.try_again import TriedAgain
from tests.support.pictures import encoded, picture
from tests.support.trees import all_files, contents
from walloc_cdl import files
from walloc_cdl.codec import ResizeCodec, ResizeConfig
from walloc_cdl.errors import CallError, DamagedError, JobError
from walloc_cdl.latents import load_manifest, load_provenance, open_shard, verify

SMALL = PrepareConfig(size=32, shard_samples=5, workers=0)
EXTEND = replace(SMALL, extend=True)


class StopError(Exception):
    """What interrupts the job."""


@pytest.fixture
def photos(make_folder) -> Path:
    """Splits train and test of the classes cat and dog, six photos each, one of them broken."""
    root = make_folder()
    (root / "train/dog/01.png").write_bytes(b"-")
    return root


@pytest.fixture
def out(photos, rgb_codec, tmp_path) -> Path:
    prepare(open_source(str(photos)), rgb_codec, tmp_path / "out", SMALL)
    return tmp_path / "out"


def grow(root: Path) -> None:
    """Eight more photos: of a class before the others, of a known one, broken ones, and a stray."""
    for number in range(6):
        add(root, f"train/bird/{number:02d}.png", 100 + number)
    add(root, "train/cat/00a.png", 110)
    add(root, "test/cat/99.png", 111)
    (root / "train/cat/bad.png").write_bytes(b"bad")
    (root / "train/cat/notes.txt").write_text("no photo")


def add(root: Path, name: str, seed: int) -> None:
    (root / name).parent.mkdir(exist_ok=True, parents=True)
    picture(seed, 44, 36).save(root / name)


def extended(root: Path, codec: Any, out: Path, config: PrepareConfig = EXTEND) -> list[str]:
    """Extend, and return the notes."""
    notes: list[str] = []
    prepare(open_source(str(root)), codec, out, config, progress=lambda state: notes.append(state.note))
    return [note for note in notes if note]


@dataclass
class Stored:
    """A sample as a reader finds it, its label by name."""

    codes: bytes
    label: Any


def samples_of(folder: Path) -> dict[tuple[str, str], Stored]:
    manifest, found = load_manifest(folder), {}
    for entry in manifest.shards:
        shard = open_shard(folder / entry.name, entry, manifest.layout)
        for row, key in enumerate(shard.keys(range(len(shard)))):
            label = None if shard.labels is None else shard.labels[row]
            if manifest.label_kind == "class":
                label = manifest.class_names[label] if manifest.class_names and label >= 0 else None
            elif manifest.label_kind == "multilabel":
                label = {manifest.class_names[number] for number in np.flatnonzero(label)}
            found[entry.split, key] = Stored(bytes(shard.sample_codes(row)), label)
    return found


def ledger_of(folder: Path) -> dict[tuple[str | None, str], dict[str, Any]]:
    return {(row["split"], row["key"]): row for row in pq.read_table(folder / "ledger.parquet").to_pylist()}


def require_consistent(folder: Path) -> None:
    """Every byte is verified, and ledger and shards tell the same."""
    assert verify(folder, full=True).problems == []
    manifest, ledger = load_manifest(folder), pq.read_table(folder / "ledger.parquet").to_pylist()
    assert len({(row["split"], row["key"]) for row in ledger}) == len(ledger)
    stored = {(row["shard"], row["row"]): row["key"] for row in ledger if row["shard"] is not None}
    for entry in manifest.shards:
        shard = open_shard(folder / entry.name, entry, manifest.layout)
        assert shard.keys(range(len(shard))) == [stored.pop((entry.name, row)) for row in range(len(shard))]
    assert not stored
    assert not (folder / "_work").exists()


def test_equal_to_a_data_set_made_at_once(photos, rgb_codec, out, tmp_path):
    before, old = contents(out), load_manifest(out)
    grow(photos)
    assert extended(photos, rgb_codec, out)[0] == f"{out}: 9 new samples"
    prepare(open_source(str(photos)), rgb_codec, tmp_path / "at once", SMALL)
    require_consistent(out)
    manifest, at_once = load_manifest(out), load_manifest(tmp_path / "at once")
    assert samples_of(out) == samples_of(tmp_path / "at once")
    assert manifest.class_names == ["cat", "dog", "bird"]
    assert at_once.class_names == ["bird", "cat", "dog"]
    assert manifest.source == at_once.source
    for split in ("train", "test"):
        counts = dict(zip(at_once.class_names, at_once.splits[split].class_counts, strict=True))
        assert dict(zip(manifest.class_names, manifest.splits[split].class_counts, strict=True)) == counts
        assert np.array_equal(manifest.histograms[split], at_once.histograms[split])
    assert manifest.ledger == at_once.ledger
    parts = ("num_bytes", "sha256", "reason", "duplicate_of")
    mine, theirs = ledger_of(out), ledger_of(tmp_path / "at once")
    assert {name: [row[part] for part in parts] for name, row in mine.items()} == {
        name: [row[part] for part in parts] for name, row in theirs.items()
    }
    assert [entry.name for entry in manifest.shards if entry not in old.shards] == [
        "train-00003.safetensors",
        "train-00004.safetensors",
        "test-00003.safetensors",
    ]
    for name, data in before.items():
        if name.endswith(".safetensors"):  # shards, codec and synthesis
            assert (out / name).read_bytes() == data, name
    (edit,) = load_provenance(out)["edits"]
    assert (edit["command"], edit["num_samples"], edit["engine"]["name"]) == ("extend", 9, "local")
    assert extended(photos, rgb_codec, out, SMALL) == [f"{out} is already finished; nothing to do"]


def test_nothing_new_leaves_every_file(photos, rgb_codec, out):
    (photos / "train/cat/00.png").unlink()
    before = contents(out)
    assert extended(photos, rgb_codec, out) == [
        f"{out}: no new samples",
        "1 samples that could not be used before are tried again",
        "1 samples are no longer in the source; they stay in the data set",
        "none of them can be used now; nothing was changed",
    ]
    assert contents(out) == before
    (photos / "train/dog/01.png").unlink()  # the bad one
    assert extended(photos, rgb_codec, out) == [
        f"{out}: nothing to extend",
        "1 samples are no longer in the source; they stay in the data set",
    ]
    assert contents(out) == before


def test_twice_and_with_a_new_split(photos, rgb_codec, out, tmp_path):
    grow(photos)
    extended(photos, rgb_codec, out)
    first = contents(out)
    add(photos, "validation/zebra/00.png", 200)
    add(photos, "train/cat/zz.png", 201)
    (photos / "train/dog/05.png").unlink()
    extended(photos, rgb_codec, out)
    require_consistent(out)
    manifest = load_manifest(out)
    assert manifest.class_names == ["cat", "dog", "bird", "zebra"]
    assert manifest.splits["validation"].class_counts == [0, 0, 0, 1]
    assert ("train", "train/dog/05.png") in samples_of(out) or ("train", "dog/05.png") in samples_of(out)
    assert all((out / name).read_bytes() == data for name, data in first.items() if name.startswith("t"))


def test_a_changed_size_is_refused(photos, rgb_codec, out):
    before = contents(out)
    key = next(key for split, key in samples_of(out) if key.endswith("cat/02.png") and split == "train")
    old = (photos / "train/cat/02.png").stat().st_size
    (photos / "train/cat/02.png").write_bytes(b"other")
    grow(photos)
    with pytest.raises(CallError) as caught:
        extended(photos, rgb_codec, out)
    assert str(caught.value) == (
        f"1 samples of {out} have changed in the source since they were encoded; the first is train/{key} "
        f"({old:,} bytes in the data set, 5 now); restore the old ones, `cdl drop` them, which excludes them "
        "permanently, or prepare the source in another folder"
    )
    assert contents(out) == before
    drop(out, [key], split="train")
    extended(photos, rgb_codec, out)
    assert ("train", key) not in samples_of(out)
    require_consistent(out)


def test_dropped_samples_stay_dropped_whatever_becomes_of_them(photos, rgb_codec, out):
    key = next(key for split, key in samples_of(out) if key.endswith("cat/02.png") and split == "train")
    drop(out, [key], split="train")
    add(photos, "train/cat/02.png", 999)  # another photo under the name
    before = contents(out)
    assert extended(photos, rgb_codec, out)[-1] == "none of them can be used now; nothing was changed"
    assert contents(out) == before
    grow(photos)
    extended(photos, rgb_codec, out)
    assert load_manifest(out).ledger["num_dropped"] == 1
    assert ("train", key) not in samples_of(out)
    require_consistent(out)


def test_quarantined_samples_are_tried_again(photos, rgb_codec, out):
    """Whether their size has changed or not; those that still cannot be used change no file."""
    (bad,) = [name for name, row in ledger_of(out).items() if row["reason"]]
    before = contents(out)
    again = [f"{out}: no new samples", "1 samples that could not be used before are tried again"]
    assert extended(photos, rgb_codec, out) == [*again, "none of them can be used now; nothing was changed"]
    assert (contents(out), (out / "_work").exists()) == (before, False)
    add(photos, "train/dog/01.png", 300)
    assert extended(photos, rgb_codec, out)[:2] == again
    assert ledger_of(out)[bad]["shard"] == "train-00003.safetensors"
    assert load_manifest(out).ledger["num_quarantined"] == 0
    require_consistent(out)
    (edit,) = load_provenance(out)["edits"]
    assert (edit["num_samples"], edit["num_retried"]) == (0, 1)


def mend(path: Path) -> None:
    """Replace a file by a picture of the same size in bytes, and return the size."""
    stream = io.BytesIO()
    picture(7, 40, 36).save(stream, "PNG")
    size = path.stat().st_size
    assert size >= len(stream.getvalue())
    path.write_bytes(stream.getvalue().ljust(size, b"\0"))


@pytest.fixture
def with_bad_ones(make_folder, rgb_codec, tmp_path) -> tuple[Path, Path]:
    """A source of 24 photos, twelve of them damaged, and its data set."""
    root = make_folder()
    for number in range(6):
        for kind in ("cat", "dog"):
            (root / f"test/{kind}/{number:02d}.png").write_bytes(b"-" * 20_000)
    for kind in ("cat", "dog"):
        add(root, f"test/{kind}/99.png", 5 + len(kind))
    prepare(open_source(str(root)), rgb_codec, tmp_path / "bad", SMALL)
    return root, tmp_path / "bad"


def test_files_mended_at_the_same_size_are_added(with_bad_ones, rgb_codec, tmp_path):
    root, out = with_bad_ones
    mend(root / "test/dog/03.png")
    notes = extended(root, rgb_codec, out)
    assert notes[:2] == [f"{out}: no new samples", "12 samples that could not be used before are tried again"]
    require_consistent(out)
    prepare(open_source(str(root)), rgb_codec, tmp_path / "at once", SMALL)
    assert samples_of(out) == samples_of(tmp_path / "at once")
    manifest = load_manifest(out)
    assert manifest.ledger == load_manifest(tmp_path / "at once").ledger
    added = [entry.num_samples for entry in manifest.shards_of("test")][3:]
    assert added == [1]  # further shards would be empty


def test_a_repair_with_the_source_adds_them_too(with_bad_ones, rgb_codec, tmp_path):
    root, out = with_bad_ones
    shutil.copytree(out, tmp_path / "extended")
    before = contents(out)
    config = RepairConfig(open_source(str(root)), workers=0)
    assert repair(out, config).tried_again == TriedAgain(12, 0)
    assert contents(out) == before
    mend(root / "test/dog/03.png")
    (out / "train-00000.safetensors").unlink()
    result = repair(out, config)
    assert (result.encoded, result.problems) == (["train-00000.safetensors"], [])
    assert result.tried_again == TriedAgain(12, 1)
    require_consistent(out)
    extended(root, rgb_codec, tmp_path / "extended")
    assert contents(out) == contents(tmp_path / "extended")
    assert repair(out).tried_again == TriedAgain()
    add(root, "train/cat/new.png", 9)
    grown = RepairConfig(open_source(str(root)), workers=0)
    hindrance = repair(out, grown).tried_again.hindrance
    assert (
        hindrance == "not tried: the source has changed (source.num_samples.train); `cdl prepare --extend` tries them"
    )
    assert contents(out) == contents(tmp_path / "extended")


def test_a_repair_that_was_interrupted_while_it_added_them(with_bad_ones, monkeypatch):
    root, out = with_bad_ones
    mend(root / "test/dog/03.png")
    config = RepairConfig(open_source(str(root)), workers=0)
    with monkeypatch.context() as patch:
        patch.setattr("datasets_prep.upkeep.extend._commit", interrupt)
        with pytest.raises(StopError):
            repair(out, config)
    assert (out / "_work/extension/_work/plan.json").is_file()
    with pytest.raises(CallError, match="holds an unfinished job"):
        drop(out, ["train/cat/00.png"])
    assert repair(out, config).tried_again == TriedAgain(12, 1)
    require_consistent(out)


def interrupt(*_: object) -> None:
    raise StopError


def test_urls_that_answered_503_are_added_when_they_answer(rgb_codec, tmp_path, monkeypatch):
    (tmp_path / "table.csv").write_text("url\n" + "".join(f"http://host/{number}.png\n" for number in range(60)))
    failing = set(range(1, 40, 2))

    def read_range(url: str, *_: object, **options: object) -> bytes:
        if int(url[12:-4]) in failing:
            raise FetchError("HTTP status 503, 3 times", ReadFailure.FAILED)
        return encoded(picture(int(url[12:-4])))

    monkeypatch.setattr("datasets_prep.samples.content.read_range", read_range)
    source, out = open_source(f"csv:{tmp_path / 'table.csv'}"), tmp_path / "out"
    assert prepare(source, rgb_codec, out, SMALL).ledger["num_quarantined"] == 20
    failing.update(range(60))  # nothing is lost that was not lost before, so that even this stops no extension
    before = contents(out)
    prepare(source, rgb_codec, out, EXTEND)
    assert contents(out) == before
    failing.clear()
    assert prepare(source, rgb_codec, out, EXTEND).splits["train"].num_samples == 60
    require_consistent(out)


def test_a_holdout_of_the_grown_source_moves_no_sample(make_folder, rgb_codec, tmp_path):
    root, out = make_folder(splits=("",), each=15), tmp_path / "out"
    prepare(holdout(open_source(str(root)), 0.3), rgb_codec, out, SMALL)
    before = samples_of(out)
    drop(out, [key for split, key in before if split == "test"][:2])
    before = samples_of(out)
    for number in range(20):
        add(root, f"cat/new{number:02d}.png", 400 + number)
    notes: list[str] = []
    grown = holdout(open_source(str(root)), 0.3)
    prepare(grown, rgb_codec, out, EXTEND, progress=lambda state: notes.append(state.note))
    after = samples_of(out)
    assert all(after[name] == sample for name, sample in before.items())
    new = [key for split, key in after if (split, key) not in before]
    assert len(new) == len(set(new)) == 20
    assert all("new" in key for key in new)
    assert any("are in another split of the source now; they stay in their split" in note for note in notes)
    require_consistent(out)


@pytest.mark.parametrize("left_out", [True, False])
def test_copies_of_old_samples_are_marked_or_left_out(photos, rgb_codec, tmp_path, left_out):
    out, config = tmp_path / "out", replace(SMALL, drop_duplicates=left_out)
    prepare(open_source(str(photos)), rgb_codec, out, config)
    shutil.copy(photos / "train/cat/03.png", photos / "train/dog/copy.png")
    add(photos, "train/dog/new.png", 500)
    extended(photos, rgb_codec, out, replace(config, extend=True))
    (row,) = [row for (_, key), row in ledger_of(out).items() if key.endswith("copy.png")]
    assert row["duplicate_of"].endswith("cat/03.png")
    assert (row["shard"] is None) == left_out
    assert row["reason"] == ("duplicate" if left_out else None)
    assert load_manifest(out).ledger["num_duplicates_of_other_label"] == 1
    assert any(key.endswith("new.png") for _, key in samples_of(out))
    require_consistent(out)


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int, work: Any) -> bool:
    """Run with an exception in place of a file's renaming, by its number; whether it came to that."""
    rename, seen = os.replace, []

    def failing(before: Any, after: Any, **options: Any) -> None:
        seen.append(after)
        if len(seen) == number + 1:
            raise StopError
        rename(before, after, **options)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", failing)
        try:
            work()
        except StopError:
            return True
    return False


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_interrupted_at_any_write(photos, rgb_codec, out, tmp_path, monkeypatch, step):
    """Until the end the old data set is there, whole, then the new one; in between word of the edit."""
    before = contents(out)
    grow(photos)
    old = tmp_path / "old"
    shutil.copytree(out, old)
    extended(photos, rgb_codec, out)
    after = contents(out)
    number, outcomes = 0, set()
    while True:
        shutil.rmtree(out)
        shutil.copytree(old, out)
        if not stop_at(monkeypatch, number, lambda: extended(photos, rgb_codec, out)):
            break
        outcomes.add(found := outcome(out, before))
        if found == "interrupted" and number % 2:
            assert repair(out).edit_ended
        notes = extended(photos, rgb_codec, out)
        assert found == "old" or f"{out}: no new samples" in notes
        assert contents(out) == after, number
        assert not (out / "_work").exists()
        number += step
    assert number > 25
    assert outcomes == {"old", "interrupted"}


def outcome(out: Path, before: dict[str, bytes]) -> str:
    """What a reader finds."""
    if not (out / "manifest.json").is_file():
        with pytest.raises(DamagedError, match=f"an edit of {out} was interrupted: run `cdl repair {out}`"):
            load_manifest(out)
        return "interrupted"
    assert {name: data for name, data in contents(out).items() if not name.startswith("_work")} == before
    assert verify(out, full=True).problems == []
    return "old"


def stopped(photos: Path, codec: Any, out: Path) -> None:
    """An extension that is interrupted after its first shard."""
    seen: list[Any] = []

    def stop(state: Any) -> None:
        if state.finished is not None:
            seen.append(state)
            raise StopError

    with pytest.raises(StopError):
        prepare(open_source(str(photos)), codec, out, EXTEND, progress=stop)


def test_an_unfinished_extension_and_other_calls(photos, rgb_codec, out):
    old_source = open_source(str(photos))
    grow(photos)
    stopped(photos, rgb_codec, out)
    work = sorted((out / "_work").rglob("*"))
    with pytest.raises(CallError, match="holds an unfinished extension; complete it with the command that started it"):
        prepare(old_source, rgb_codec, out, SMALL)
    with pytest.raises(CallError, match="holds an unfinished job"):
        drop(out, ["x"])
    for name in ("train/bird", "test/cat/99.png"):
        (photos / name).rename(photos.parent / name.replace("/", "-"))
    for name in ("train/cat/00a.png", "train/cat/bad.png"):
        (photos / name).unlink()
    with pytest.raises(CallError, match=r"an unfinished extension with source"):
        extended(photos, rgb_codec, out)  # nothing would be new, but that is another call, too
    for name in ("train/bird", "test/cat/99.png"):
        (photos.parent / name.replace("/", "-")).rename(photos / name)
    add(photos, "train/cat/00a.png", 110)
    (photos / "train/cat/bad.png").write_bytes(b"bad")
    add(photos, "train/cat/later.png", 600)
    with pytest.raises(CallError, match=r"an unfinished extension with .*or --restart with --extend to start the ext"):
        extended(photos, rgb_codec, out)
    assert sorted((out / "_work").rglob("*")) == work
    assert verify(out, full=True).problems == []
    assert extended(photos, rgb_codec, out, replace(EXTEND, restart=True))[0] == f"{out}: 10 new samples"
    require_consistent(out)


def test_resumed_where_it_was(photos, rgb_codec, out):
    grow(photos)
    stopped(photos, rgb_codec, out)
    assert extended(photos, rgb_codec, out)[2:] == ["resumed: 1 of 3 shards are done", "writing ledger and manifest"]
    require_consistent(out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"size": 36},
            r"a finished data set with preprocessing\.size 32, but this call has 36; give the value that it was",
        ),
        ({"shard_samples": 4}, r"preprocessing\.shard_samples 5, but this call has 4"),
        ({"drop_duplicates": True}, r"preprocessing\.duplicates 'kept', but this call has 'left out'"),
        ({"views": "flip"}, r"preprocessing\.views"),
    ],
)
def test_other_settings_are_refused(photos, rgb_codec, out, changes, message):
    before = contents(out)
    grow(photos)
    with pytest.raises(CallError, match=message):
        extended(photos, rgb_codec, out, replace(EXTEND, **changes))
    assert contents(out) == before


def test_other_refusals(photos, rgb_codec, out, make_folder, tmp_path):
    source = open_source(str(photos))
    half = ResizeCodec(ResizeConfig(channels=3, factor=2))
    with pytest.raises(CallError, match=r"a finished data set with codec\.codec_id '"):
        prepare(source, half, out, EXTEND)
    with pytest.raises(CallError, match=r"source\.name 'photos', but this call has 'other'"):
        prepare(open_source(str(make_folder("other"))), rgb_codec, out, EXTEND)
    with pytest.raises(CallError, match="is not a data set"):
        prepare(source, rgb_codec, tmp_path / "none", EXTEND)
    assert not (tmp_path / "none").exists()
    with pytest.raises(CallError, match="s3://b/x is an address; `cdl pull` the data set, extend it in a folder"):
        prepare_to(source, rgb_codec, "s3://b/x", EXTEND)
    with pytest.raises(CallError, match="--extend with --shards 1/2; an extension is one job"):
        PrepareConfig(extend=True, shards="1/2")


def test_a_dry_run_says_what_an_extension_would_add(photos, out, rgb_codec, tmp_path):
    bad = photos / "train/dog/01.png"
    bad.unlink()
    nothing, notes = forecast_extension(open_source(str(photos)), rgb_codec, out, EXTEND)
    assert (nothing.num_shards, nothing.shard_bytes, nothing.num_measured, nothing.time_s) == (0, 0, 0, 0)
    assert notes == [f"{out}: nothing to extend"]
    bad.write_bytes(b"-")
    grow(photos)
    before = sorted(tmp_path.rglob("*")), all_files(out)
    expected, notes = forecast_extension(open_source(str(photos)), rgb_codec, out, EXTEND)
    assert (sorted(tmp_path.rglob("*")), all_files(out)) == before
    assert sum(expected.num_samples.values()) == expected.num_measured == 10
    assert (expected.num_strays, expected.num_bad) == (1, 2)
    assert extended(photos, rgb_codec, out)[: len(notes)] == notes
    added = [entry for entry in load_manifest(out).shards if entry.name not in before[1]]
    assert expected.num_shards == len(added)
    with pytest.raises(CallError, match=r"preprocessing.size 32, but this call has 36"):
        forecast_extension(open_source(str(photos)), rgb_codec, out, replace(EXTEND, size=36))


def test_a_full_disk_is_one_line_that_says_how_to_go_on(photos, out, rgb_codec, monkeypatch):
    grow(photos)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            JobError, match=r"plan\.json: No space left on device; make room, then run the same command again"
        ):
            extended(photos, rgb_codec, out)
    assert f"{out}: 9 new samples" in extended(photos, rgb_codec, out)[0]
    require_consistent(out)


def write_table(root: Path, num: int, **columns: Any) -> None:
    """`table.csv` of `num` photos, with columns by functions of the row's number."""
    for number in range(num):
        add(root, f"{number:02d}.png", number)
    rows = [",".join(["path", *columns])]
    rows += [
        ",".join([f"{number:02d}.png", *(str(value(number)) for value in columns.values())]) for number in range(num)
    ]
    (root / "table.csv").write_text("\n".join(rows) + "\n")


def test_several_labels_targets_and_kept_columns(rgb_codec, tmp_path):
    """Classes in another order, targets with columns beside them: by name and key all is as it was."""
    cases = {
        "tags": ({"tags": lambda n: "b;c" if n < 4 else "c" if n < 8 else "c;b"}, "?label=tags&separator=;"),
        "targets": (
            {"age": lambda n: n / 4, "mass": lambda n: -n, "note": lambda n: f"n{n}"},
            "?target=age,mass&keep=note",
        ),
    }
    for name, (columns, options) in cases.items():
        out, address = tmp_path / f"out {name}", f"csv:{tmp_path / name / 'table.csv'}{options}"
        write_table(tmp_path / name, 6, **columns)
        prepare(open_source(address), rgb_codec, out, SMALL)
        write_table(tmp_path / name, 13, **columns)
        prepare(open_source(address), rgb_codec, out, EXTEND)
        prepare(open_source(address), rgb_codec, tmp_path / f"at once {name}", SMALL)
        require_consistent(out)
        mine, theirs = samples_of(out), samples_of(tmp_path / f"at once {name}")
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[key].codes, theirs[key].codes) for key in mine)
        assert all(np.all(mine[key].label == theirs[key].label) for key in mine)
    notes = pq.read_table(tmp_path / "out targets/ledger.parquet")["note"].to_pylist()
    assert notes == [f"n{number}" for number in range(13)]
    with pytest.raises(
        CallError, match=r"has the columns split, .*, note, but this call makes split, .*; keep the same"
    ):
        prepare(open_source(address.replace("&keep=note", "")), rgb_codec, out, EXTEND)
    with pytest.raises(CallError, match=r"the targets of table are \['age'\], those of the data set \['age', 'mass'\]"):
        prepare(open_source(address.replace("age,mass", "age")), rgb_codec, out, EXTEND)
    with pytest.raises(CallError, match="of kind 'none', those of the data set of kind 'regression'"):
        prepare(open_source(address.replace("target=age,mass&", "")), rgb_codec, out, EXTEND)
    write_table(tmp_path / "tags", 14, tags=lambda n: "new")
    with pytest.raises(CallError, match="has the new class 'new', but a data set with multiple classes per sample"):
        prepare(
            open_source(f"csv:{tmp_path / 'tags/table.csv'}?label=tags&separator=;"),
            rgb_codec,
            tmp_path / "out tags",
            EXTEND,
        )


def test_other_labels_of_old_samples_are_told(rgb_codec, tmp_path):
    address, out = f"csv:{tmp_path / 'rows/table.csv'}?label=kind", tmp_path / "out"
    write_table(tmp_path / "rows", 4, kind=lambda n: "z")
    prepare(open_source(address), rgb_codec, out, SMALL)
    write_table(tmp_path / "rows", 6, kind=lambda n: "a" if n % 3 == 0 else "z")
    notes: list[str] = []
    prepare(open_source(address), rgb_codec, out, EXTEND, progress=lambda state: notes.append(state.note))
    assert "WARNING: 2 samples have another label in the source now; they keep their old one" in notes
    assert [stored.label for stored in samples_of(out).values()] == ["z", "z", "z", "z", "z", "z"]
    assert load_manifest(out).class_names == ["z", "a"]
