"""Jobs whose source is a stream."""

from __future__ import annotations

from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value, concatenate_datasets

from datasets_prep import (
    HuggingFaceStream,
    IterableSource,
    MapSource,
    PrepareConfig,
    StreamingSource,
    open_source,
    open_stream,
    prepare,
)
from datasets_prep.job import progress as progress_module
from datasets_prep.streaming.plan_stream import plan_stream
from datasets_prep.upkeep.repair import RepairConfig, repair
from tests.support.pictures import encoded, picture
from tests.support.trees import contents
from walloc_cdl.cli.app import run
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.latents import load_manifest, verify

SMALL = PrepareConfig(size=32, shard_samples=4, workers=0)


class StopError(Exception):
    """Raised to interrupt a job."""


def samples(count, begin=0):
    """Return (encoded image, label) of `count` pictures, the third of which is not an image."""
    return [(encoded(picture(n)) if n != 2 else b"-", n % 2) for n in range(begin, begin + count)]


def stream_of(train, test=(), *, name="photos", class_names=("cat", "dog")):
    return IterableSource({"train": list(train), "test": list(test)}, name=name, class_names=list(class_names))


def stop_after(calls):
    """Return a progress callback that stops the job at its `calls`-th report of decoded samples."""
    seen = []

    def callback(progress):
        if progress.finished is None and not progress.note:
            seen.append(progress)
            if len(seen) == calls:
                raise StopError

    return callback


def ledger(folder):
    return pq.read_table(folder / "ledger.parquet").to_pylist()


def test_a_stream_gives_the_bytes_of_random_access(tmp_path, rgb_codec):
    """Only the sizes differ, which a `MapSource` does not know, and the mark of a stream."""
    train, test = samples(11), samples(5, begin=50)
    streamed = prepare(stream_of(train, test), rgb_codec, tmp_path / "stream", SMALL)
    same = MapSource({"train": train, "test": test}, name="photos", class_names=["cat", "dog"])
    manifest = prepare(same, rgb_codec, tmp_path / "map", SMALL)
    assert streamed.shards == manifest.shards
    assert streamed.class_names == ["cat", "dog"]
    assert streamed.splits == manifest.splits
    assert streamed.source["num_samples"] == {"train": 11, "test": 5}
    assert [entry.num_samples for entry in streamed.shards_of("train")] == [3, 4, 3]
    here, there = contents(tmp_path / "stream"), contents(tmp_path / "map")
    differing = {name for name in here.keys() | there.keys() if here.get(name) != there.get(name)}
    assert differing == {"manifest.json", "ledger.parquet", "copy/manifest.json", "copy/ledger.parquet"}
    rows = ledger(tmp_path / "stream")
    assert [row | {"num_bytes": 0} for row in rows] == ledger(tmp_path / "map")
    assert [row["reason"] for row in rows if row["reason"]] == [rows[2]["reason"]]
    assert verify(tmp_path / "stream", full=True).problems == []
    assert not (tmp_path / "stream/_work").exists()


@pytest.fixture
def hub(tmp_path):
    """A data set as Parquet files, as `datasets` stores it."""
    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
    splits = {}
    for split, begin, count in (("train", 0, 13), ("test", 30, 5)):
        images = [{"bytes": data, "path": None} for data, _ in samples(count, begin)]
        labels = [label if n else -1 for n, (_, label) in enumerate(samples(count, begin))]
        splits[split] = Dataset.from_dict({"image": images, "label": labels}, features=features)
    folder = tmp_path / "photos"
    folder.mkdir()
    for split, rows in splits.items():
        rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder, DatasetDict(splits)


def test_a_hub_data_set_has_the_fingerprint_of_random_access(tmp_path, rgb_codec, hub):
    folder, splits = hub
    splits.save_to_disk(tmp_path / "saved/photos")
    expected = prepare(open_source(f"hf:{tmp_path / 'saved/photos'}"), rgb_codec, tmp_path / "random", SMALL)
    rows = {split: rows.to_iterable_dataset() for split, rows in splits.items()}
    for number, stream in enumerate(
        (
            open_stream(f"hf:{folder}?streaming=1"),
            open_stream(f"hf:{tmp_path / 'saved/photos'}?streaming=1"),
            HuggingFaceStream("photos", rows),
        )
    ):
        manifest = prepare(stream, rgb_codec, tmp_path / f"out{number}", SMALL)
        assert manifest.source == {**expected.source, "streaming": True, "limit": None}
        assert set(manifest.splits) == set(expected.splits)
        assert ledger(tmp_path / f"out{number}") == ledger(tmp_path / "random")
        assert manifest.shards == expected.shards
        for name in ("codec/synthesis.safetensors", "train-00001.safetensors"):
            assert (tmp_path / f"out{number}" / name).read_bytes() == (tmp_path / "random" / name).read_bytes()


def test_random_access_repairs_and_extends_a_streamed_data_set(tmp_path, rgb_codec, hub):
    """The same data set is opened with random access for both."""
    folder, splits = hub
    out = tmp_path / "out"
    prepare(open_stream(f"hf:{folder}?streaming=1"), rgb_codec, out, SMALL)
    before = contents(out)
    (out / "train-00001.safetensors").write_bytes(b"-")
    repair(out, RepairConfig(source=open_source(f"hf:{folder}")))
    prepare(open_source(f"hf:{folder}"), rgb_codec, out, SMALL)  # which is this data set
    assert contents(out) == before
    more = concatenate_datasets([splits["train"], splits["test"]])
    more.to_parquet(folder / "train-00000-of-00001.parquet")
    manifest = prepare(open_source(f"hf:{folder}"), rgb_codec, out, replace(SMALL, extend=True))
    assert manifest.splits["train"].num_samples == 12 + 5
    assert verify(out, full=True).problems == []


def test_on_the_command_line(tmp_path, hub, capsys):
    folder, _ = hub
    command = ["prepare", f"hf:{folder}?streaming=1", "--codec", "rgb-16x", "--size", "64", "--workers", "0"]
    assert run([*command, "--shard-samples", "8", "--out", str(tmp_path / "out")]) == 0
    assert load_manifest(tmp_path / "out").source["num_samples"] == {"train": 13, "test": 5}
    assert "train-00001.safetensors: 5 samples; 13 done" in capsys.readouterr().err
    for options, reason in (
        (["--shards", "1/2"], "--shards 1/2 with the stream photos: a stream has one reader"),
        (["--finish"], "--finish with the stream photos: it completes slices"),
        (["--extend"], "--extend with the stream photos: new samples are found by comparing listings"),
        (["--dry-run"], "--dry-run with the stream hf:"),
        (["--holdout", "0.2"], "`cdl split` the data set that is made of it"),
        (["--labels", "x.txt"], "its file names keys, which a stream does not list"),
    ):
        assert run([*command, *options, "--out", str(tmp_path / "refused")]) == CallError.exit_code
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()


def test_an_engine_that_takes_shards_in_any_order_is_refused(rgb_codec):
    with pytest.raises(CallError, match="engine 'ray' with the stream photos, whose single reader sends samples"):
        plan_stream(stream_of(samples(3)), rgb_codec, replace(SMALL, engine="ray"))


@pytest.mark.parametrize(("workers", "stops"), [(0, range(1, 6)), (2, (2, 5))])
def test_interrupted_after_any_chunk(tmp_path, rgb_codec, workers, stops):
    train, test = samples(12), samples(5, begin=50)
    prepare(stream_of(train, test), rgb_codec, tmp_path / "undisturbed", SMALL)
    expected = contents(tmp_path / "undisturbed")
    config = replace(SMALL, workers=workers)
    for chunks in stops:
        out = tmp_path / f"out{chunks}"
        with pytest.raises(StopError):
            prepare(stream_of(train, test), rgb_codec, out, config, progress=stop_after(chunks))
        notes = []
        prepare(stream_of(train, test), rgb_codec, out, config, progress=lambda state, notes=notes: notes.append(state))
        said = [state.note for state in notes if state.note]
        assert said[:-1] == ([f"resumed: {chunks - 1} shards are done"] if chunks > 1 else [])
        assert {state.total for state in notes} == {None}
        assert notes[-1].done == 17
        assert contents(out) == expected


def test_a_shard_lost_in_the_middle_is_made_again(tmp_path, rgb_codec):
    train = samples(14)
    prepare(stream_of(train), rgb_codec, tmp_path / "undisturbed", SMALL)
    out = tmp_path / "out"
    with pytest.raises(StopError):
        prepare(stream_of(train), rgb_codec, out, SMALL, progress=stop_after(4))
    (out / "train-00001.safetensors").unlink()
    made = []
    prepare(stream_of(train), rgb_codec, out, SMALL, progress=lambda state: made.append(state.finished))
    names = [record.entry.name for record in made if record is not None]
    assert names == ["train-00001.safetensors", "train-00003.safetensors"]
    assert contents(out) == contents(tmp_path / "undisturbed")


class Seekable(StreamingSource):
    """A stream that can start at any sample."""

    seeks = True

    def __init__(self, rows):
        super().__init__("rows", ["train"], ["cat", "dog"])
        self.rows, self.starts = rows, []

    def stream(self, split, start=0):
        self.starts.append(start)
        for number in range(start, len(self.rows)):
            image, label = self.rows[number]
            yield f"{number:08d}", label, image


def test_a_seekable_stream_is_resumed_at_its_position(tmp_path, rgb_codec):
    rows = samples(14)
    prepare(Seekable(rows), rgb_codec, tmp_path / "undisturbed", SMALL)
    for chunks, start in ((3, 7), (4, 11)):
        out, stream = tmp_path / f"out{chunks}", Seekable(rows)
        with pytest.raises(StopError):
            prepare(stream, rgb_codec, out, SMALL, progress=stop_after(chunks))
        for position in (0, start):
            changed = list(rows)
            changed[position] = (encoded(picture(77)), rows[position][1])
            with pytest.raises(CallError, match=f"sample {position} of split 'train' has another"):
                prepare(Seekable(changed), rgb_codec, out, SMALL)
        with pytest.raises(CallError, match=r"split 'train' has ended after .* samples, of which"):
            prepare(Seekable(rows[:start]), rgb_codec, out, SMALL)
        stream.starts.clear()
        prepare(stream, rgb_codec, out, SMALL)
        assert stream.starts == [0, 0, start]  # the first samples, the first one, the rest
        assert contents(out) == contents(tmp_path / "undisturbed")


def test_a_seekable_stream_whose_end_was_reached_but_not_recorded(tmp_path, rgb_codec):
    rows = samples(14)
    prepare(Seekable(rows), rgb_codec, tmp_path / "undisturbed", SMALL)
    with pytest.raises(StopError):
        prepare(Seekable(rows), rgb_codec, tmp_path / "out", SMALL, progress=stop_at_shard(4))
    assert not (tmp_path / "out/_work/ends.json").exists()
    with pytest.raises(CallError, match="split 'train' ended after 14 samples when it was encoded, and has more now"):
        prepare(Seekable(samples(15)), rgb_codec, tmp_path / "out", SMALL)
    stream = Seekable(rows)
    prepare(stream, rgb_codec, tmp_path / "out", SMALL)
    assert stream.starts == [0, 0, 13]
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def stop_at_shard(number):
    """Return a progress callback that stops the job when its `number`-th shard is done."""
    seen = []

    def callback(progress):
        if progress.finished is not None:
            seen.append(progress)
            if len(seen) == number:
                raise StopError

    return callback


@pytest.mark.parametrize("position", [0, 1, 7])
def test_a_stream_that_has_changed_is_refused(tmp_path, rgb_codec, position):
    train = samples(12)
    with pytest.raises(StopError):
        prepare(stream_of(train), rgb_codec, tmp_path / "out", SMALL, progress=stop_after(3))
    (image, label), other = train[position], encoded(picture(99))
    for changed, what in (
        ((other, label), "num_bytes" if len(other) != len(image) else "sha256"),
        ((image[:-1] + b"?", label), "sha256"),
        ((image, 1 - label), "label"),
    ):
        rows = [*train[:position], changed, *train[position + 1 :]]
        with pytest.raises(CallError, match=f"sample {position} of split 'train' has another {what} than when it was"):
            prepare(stream_of(rows), rgb_codec, tmp_path / "out", SMALL)
    with pytest.raises(CallError, match="split 'train' has ended after 7 samples, of which 8 were encoded before"):
        prepare(stream_of(train[:7]), rgb_codec, tmp_path / "out", SMALL)
    prepare(stream_of(train), rgb_codec, tmp_path / "out", SMALL)


def test_a_stream_with_more_samples_than_before_is_refused(tmp_path, rgb_codec):
    stop = stop_at_shard(3)  # of two splits: at the end of the second shard of the second one
    with pytest.raises(StopError):
        prepare(stream_of(samples(3), samples(6, 50)), rgb_codec, tmp_path / "out", SMALL, progress=stop)
    with pytest.raises(CallError, match="split 'test' ended after 6 samples when it was encoded, and has more now"):
        prepare(stream_of(samples(3), samples(7, 50)), rgb_codec, tmp_path / "out", SMALL)
    with pytest.raises(CallError, match="sample 0 of split 'train' has another"):
        prepare(stream_of(samples(3, 1), samples(6, 50)), rgb_codec, tmp_path / "out", SMALL)
    prepare(stream_of(samples(3), samples(6, 50)), rgb_codec, tmp_path / "out", SMALL)


def test_other_plans_are_refused_and_removed(tmp_path, rgb_codec):
    train, out = samples(12), tmp_path / "out"
    with pytest.raises(StopError):
        prepare(stream_of(train), rgb_codec, out, SMALL, progress=stop_after(3))
    for stream, config, field in (
        (stream_of(train), replace(SMALL, limit=3), "source.limit None, but this call has 3"),
        (stream_of(train), replace(SMALL, shard_samples=5), "preprocessing.shard_samples 4"),
        (stream_of(train, class_names=("cat", "cow")), SMALL, "source.class_names"),
        (MapSource(train, name="photos"), SMALL, "source.num_samples.train None, but this call has 12"),
    ):
        with pytest.raises(CallError, match=f"holds an unfinished job with {field}"):
            prepare(stream, rgb_codec, out, config)
    prepare(stream_of(samples(3)), rgb_codec, out, replace(SMALL, restart=True))
    assert sorted(path.name for path in out.glob("*.safetensors")) == ["train-00000.safetensors"]
    assert verify(out, full=True).problems == []


def test_a_finished_data_set_is_not_changed(tmp_path, rgb_codec):
    out, config = tmp_path / "out", replace(SMALL, limit=6)
    prepare(stream_of(samples(12)), rgb_codec, out, config)
    before, said = contents(out), []
    prepare(stream_of(samples(12)), rgb_codec, out, config, progress=said.append)
    assert (said[0].note, said[0].done) == (f"{out} is already finished; nothing to do", 6)
    with pytest.raises(CallError, match=r"a finished data set with source\.limit 6, but this call has None"):
        prepare(stream_of(samples(12)), rgb_codec, out, SMALL)
    with pytest.raises(CallError, match=r"a finished data set with source\.class_names"):
        prepare(stream_of(samples(12), class_names=("a", "b")), rgb_codec, out, config)
    assert contents(out) == before


def test_limit(tmp_path, rgb_codec):
    drawn = []

    def endless():
        for number in range(1000):
            drawn.append(number)
            yield picture(number), "dog"

    stream = IterableSource(endless, name="endless", class_names=["cat", "dog"])
    manifest = prepare(stream, rgb_codec, tmp_path / "out", replace(SMALL, limit=6))
    assert manifest.splits["train"].class_counts == [0, 6]
    assert max(drawn) < 32  # of the look at the first ones; the job itself draws six
    assert drawn[-1] == 5


@pytest.mark.parametrize("drop", [False, True])
def test_duplicates(tmp_path, rgb_codec, drop):
    train = [*samples(6), *samples(3, 3), *samples(2, 20)]
    test = samples(2, 4)
    config = replace(SMALL, drop_duplicates=drop)
    manifest = prepare(stream_of(train, test), rgb_codec, tmp_path / "stream", config)
    same = MapSource({"train": train, "test": test}, name="photos", class_names=["cat", "dog"])
    expected = prepare(same, rgb_codec, tmp_path / "map", config)
    assert manifest.shards == expected.shards
    assert manifest.ledger == expected.ledger
    assert manifest.ledger["num_duplicates"] == 5
    for name in ("codec/synthesis.safetensors", "codec/operators.safetensors"):
        assert manifest.files[name] == expected.files[name]


def test_killed_while_duplicates_are_dropped(tmp_path, rgb_codec, monkeypatch):
    """Only a shard that was rewritten before its record was saved is made again."""
    from datasets_prep.job import drop_duplicates

    train, config = [*samples(9), *samples(3, 3), *samples(2, 20)], replace(SMALL, drop_duplicates=True)
    prepare(stream_of(train), rgb_codec, tmp_path / "undisturbed", config)
    with monkeypatch.context() as patch:
        patch.setattr(drop_duplicates, "save_record", lambda *_: (_ for _ in ()).throw(StopError))
        with pytest.raises(StopError):
            prepare(stream_of(train), rgb_codec, tmp_path / "out", config)
    made = []
    prepare(stream_of(train), rgb_codec, tmp_path / "out", config, progress=lambda state: made.append(state.finished))
    assert len([record for record in made if record is not None]) == 1
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_too_many_bad_samples(tmp_path, rgb_codec, monkeypatch):
    train = samples(10)
    config = replace(SMALL, max_bad=0.05)
    with pytest.raises(JobError, match=r"1 of the first 10 samples cannot be used, more than 0\.05 of them; check"):
        prepare(stream_of(train), rgb_codec, tmp_path / "out", config)
    prepare(stream_of(train), rgb_codec, tmp_path / "out", replace(config, max_bad=0.1))
    monkeypatch.setattr(progress_module, "MIN_STREAM_SAMPLES", 4)
    with pytest.raises(JobError, match=r"1 of the first 4 samples cannot be used, more than 0\.1 of them"):
        prepare(stream_of(train), rgb_codec, tmp_path / "other", replace(config, max_bad=0.1))


def test_no_usable_sample_fails_the_job(tmp_path, rgb_codec):
    stream = stream_of([(b"-", 0)] * 5)
    with pytest.raises(JobError, match="none of the 5 images of split 'train' is usable"):
        prepare(stream, rgb_codec, tmp_path / "out", SMALL)


@pytest.mark.parametrize(
    ("settings", "fields"),
    [({"views": "flip,crops:2", "size": 32}, "views"), ({"geometry": "ragged"}, "geometry")],
)
def test_views_and_ragged_geometry(tmp_path, rgb_codec, settings, fields):
    train = samples(7)
    config = PrepareConfig(shard_samples=4, workers=0, **settings)
    manifest = prepare(stream_of(train), rgb_codec, tmp_path / "stream", config)
    same = MapSource({"train": train, "test": samples(1)}, name="photos", class_names=["cat", "dog"])
    expected = prepare(same, rgb_codec, tmp_path / "map", config)
    assert manifest.shards_of("train") == expected.shards_of("train")
    assert manifest.preprocessing == expected.preprocessing
    assert verify(tmp_path / "stream", full=True).problems == []


def test_labels(tmp_path, rgb_codec, gray_codec):
    images = [data for data, _ in samples(2)]
    unlabeled = IterableSource([(data, None) for data in images], name="x")
    assert prepare(unlabeled, rgb_codec, tmp_path / "none", SMALL).label_kind == "none"
    for label, class_names, message in (
        (1, None, "sample 00000001 of split 'train' has the label 1, but the stream has no class names"),
        ("cow", ["cat"], "has the label 'cow', which is not one of the 1 classes"),
        (4, ["cat"], "has the label '4', which is not one of the 1 classes"),
        ([0, 1], ["cat"], r"has the label '\[0, 1\]'; expected an integer, a name or None"),
    ):
        source = IterableSource([(images[0], None), (images[1], label)], name="x", class_names=class_names)
        with pytest.raises(CallError, match=message):
            prepare(source, rgb_codec, tmp_path / "refused", SMALL)
    with pytest.raises(CallError, match="stream x has no samples; give one with images"):
        prepare(IterableSource([], name="x"), rgb_codec, tmp_path / "refused", SMALL)
    with pytest.raises(CallError, match=r"the images of source x are in color"):
        prepare(unlabeled, gray_codec, tmp_path / "refused", SMALL)
    assert not (tmp_path / "refused").exists()


def test_labels_of_the_hub_need_names(tmp_path):
    data = Dataset.from_dict({"image": [encoded(picture(0))], "label": [3]})
    rows = data.cast(Features({"image": Image(), "label": Value("int64")}))
    with pytest.raises(CallError, match="the labels of a stream must be a ClassLabel, one per sample"):
        HuggingFaceStream("x", {"train": rows.to_iterable_dataset()})


def test_an_object_that_is_no_source_is_refused_with_a_remedy(tmp_path, rgb_codec):
    with pytest.raises(
        CallError, match=r"a list is not a source; wrap it: in MapSource\(…\) if .* IterableSource\(…\)"
    ):
        prepare(samples(3), rgb_codec, tmp_path / "out", SMALL)


def test_an_interrupted_stream_is_resumed(tmp_path, rgb_codec):
    train, broken = samples(40), []

    def rows():
        for number, row in enumerate(train):
            if number == 38 and not broken:
                broken.append(number)
                raise OSError(110, "Connection timed out")
            yield row

    stream = IterableSource(rows, name="photos", class_names=["cat", "dog"])
    with pytest.raises(JobError, match="stream photos was interrupted at sample 38 of split 'train': "):
        prepare(stream, rgb_codec, tmp_path / "out", SMALL)
    assert len(list((tmp_path / "out").glob("train-*.safetensors"))) == 9
    prepare(stream, rgb_codec, tmp_path / "out", SMALL)
    whole = IterableSource(train, name="photos", class_names=["cat", "dog"])
    prepare(whole, rgb_codec, tmp_path / "undisturbed", SMALL)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_are_drawn_no_further_ahead_than_workers_need(tmp_path, rgb_codec, workers):
    """At most two chunks of 16 samples for each worker and two more are drawn."""
    drawn, ahead = [], []

    def rows():
        for number in range(400):
            drawn.append(number)
            yield encoded(picture(number % 7)), 0

    stream = IterableSource(rows, name="rows", class_names=["x"])
    config = PrepareConfig(size=32, shard_samples=200, workers=workers)
    prepare(stream, rgb_codec, tmp_path / "out", config, progress=lambda state: ahead.append(drawn[-1] - state.done))
    assert 0 < max(ahead[:-1]) <= 16 * (2 * workers + 2)
