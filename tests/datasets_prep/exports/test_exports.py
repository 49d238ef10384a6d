"""Exports: other programs read the content of the shards, and an interrupted export can be resumed."""

import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.exports import DESCRIPTION_NAME, EXPORT_FORMATS, export_latents, load_export
from datasets_prep.exports import export as export_job
from datasets_prep.exports.webdataset import sample_name
from tests.support.any_samples import FIXED, LABELS, PACKED, RAGGED, write_any_set
from tests.support.planes import levels_of, plane_codec
from tests.support.small_sets import CLASS_NAMES, make_spec, write_small_set
from walloc_cdl.canonical import sha256_file
from walloc_cdl.codec import load_codec
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.files import is_temporary
from walloc_cdl.latents import SampleLayout, load_manifest
from walloc_cdl.latents.json_with_digest import encode_json_with_digest

SPLITS = {"train": [5, 0, 3], "test": [2], "extra": []}


def read_hf(out, split, shape):
    import datasets

    rows = datasets.load_from_disk(str(out))[split]
    assert rows.features["key"].dtype == "string"
    (name,) = {"label", "target"} & set(rows.features) or {None}
    codes = np.stack(list(rows["codes"])) if len(rows) else np.empty((0, *shape), np.uint8)
    return codes, None if name is None else list(rows[name]), list(rows["key"])


def read_parquet(out, split, shape):
    table = pq.read_table([str(path) for path in sorted(out.glob(f"{split}-*.parquet"))])
    sample_info = json.loads(table.schema.metadata[b"walloc_cdl"])
    assert (sample_info["split"], sample_info["sample_shape"]) == (split, list(shape))
    codes = np.frombuffer(b"".join(table["codes"].to_pylist()), np.uint8).reshape(-1, *shape)
    (name,) = {"label", "target"} & set(table.column_names) or {None}
    return codes, None if name is None else table[name].to_pylist(), table["key"].to_pylist()


def has_members(path):
    with tarfile.open(path) as tar:
        return bool(tar.getmembers())


def read_webdataset(out, split, shape):
    wds = pytest.importorskip("webdataset")
    paths = [str(path) for path in sorted(out.glob(f"{split}-*.tar")) if has_members(path)]
    rows = list(wds.WebDataset(paths, shardshuffle=False).decode()) if paths else []
    assert len({row["__key__"] for row in rows}) == len(rows)
    codes = np.stack([row["codes.npy"] for row in rows]) if rows else np.empty((0, *shape), np.uint8)
    labels = [row.get("cls", row["json"].get("label", row["json"].get("target", ...))) for row in rows]
    return codes, None if labels and labels[0] is ... else labels, [row["json"]["key"] for row in rows]


def read_npy(out, split, shape):
    path = out / f"{split}-codes.npy"
    codes = np.load(path, mmap_mode="r" if path.stat().st_size > 128 else None)  # an empty array cannot be mapped
    (path,) = [*out.glob(f"{split}-labels.npy"), *out.glob(f"{split}-targets.npy")] or [None]
    labels = None if path is None else np.load(path)
    return codes, labels, (out / f"{split}-keys.txt").read_text(encoding="utf-8").split("\n")[:-1]


READERS = {"hf": read_hf, "parquet": read_parquet, "webdataset": read_webdataset, "npy": read_npy}


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    codec = {f"codec/{name}": data for name, data in load_codec("gray-16x").files().items()}
    return folder, write_small_set(folder, SPLITS, shape=(4, 2, 3), files=codec)


@pytest.mark.parametrize("format_name", EXPORT_FORMATS)
def test_other_programs_read_the_content_of_the_shards(format_name, data_set, tmp_path):
    folder, content = data_set
    calls = []
    description = export_latents(folder, tmp_path / "out", format_name, on_samples=lambda *call: calls.append(call))
    assert calls[-1] == (10, 10)
    assert description.about["num_samples"] == {"extra": 0, "test": 2, "train": 8}
    for split, samples in content.items():
        codes, labels, keys = READERS[format_name](tmp_path / "out", split, (4, 2, 3))
        assert codes.dtype == np.uint8
        np.testing.assert_array_equal(codes, samples.codes)
        np.testing.assert_array_equal(labels, samples.labels)
        assert keys == samples.keys


@pytest.mark.parametrize("format_name", EXPORT_FORMATS)
@pytest.mark.parametrize("number", range(len(LABELS)))
def test_every_kind_of_label_with_and_without_views(format_name, number, tmp_path):
    labels, kind = LABELS[number], ("image", "audio")[number % 2]
    layout = SampleLayout(make_spec(2, kind), FIXED[kind], labels, 1 + number % 3)
    (tmp_path / "set").mkdir()
    content = write_any_set(tmp_path / "set", layout, {"train": [4, 3], "test": [2]})
    description = export_latents(tmp_path / "set", tmp_path / "out", format_name)
    assert description.about["label_kind"] == labels.kind
    for split, drawn in content.items():
        codes, found, keys = READERS[format_name](tmp_path / "out", split, layout.sample_shape)
        np.testing.assert_array_equal(codes, drawn.codes)
        assert (found is None) == (drawn.labels is None)
        if drawn.labels is not None:
            np.testing.assert_array_equal(np.array(found, drawn.labels.dtype), drawn.labels)
        assert keys == drawn.keys


@pytest.mark.parametrize("format_name", EXPORT_FORMATS)
@pytest.mark.parametrize("views", [1, 2])
def test_packed_samples_are_exported_as_codes(format_name, views, tmp_path):
    """With the value of each byte in each channel."""
    layout = SampleLayout(PACKED["image"], FIXED["image"], LABELS[1], views)
    (tmp_path / "set").mkdir()
    content = write_any_set(tmp_path / "set", layout, {"train": [4, 3], "test": [2]})
    description = export_latents(tmp_path / "set", tmp_path / "out", format_name)
    for split, drawn in content.items():
        codes, _, keys = READERS[format_name](tmp_path / "out", split, layout.sample_shape)
        np.testing.assert_array_equal(codes, drawn.codes)
        assert keys == drawn.keys
    table = np.array(description.about["byte_values"])
    np.testing.assert_array_equal(table, levels_of(layout.spec).values_table(layout.spec.channel_bits))


@pytest.mark.parametrize("views", [None, "flip"])
def test_the_readme_of_packed_samples_converts_codes(views, make_folder, tmp_path, monkeypatch):
    codec = plane_codec().with_planes(12)
    config = PrepareConfig(size=24, workers=0, views=views)
    prepare(open_source(str(make_folder())), codec, tmp_path / "set", config)
    export_latents(tmp_path / "set", tmp_path / "out", "npy")
    monkeypatch.chdir(tmp_path / "out")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", Path("README.md").read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
    codes = names["codes"] if views is None else names["codes"][:, 0]
    latents = names["latents"] if views is None else names["latents"][:, 0]
    expected = codec.values(torch.from_numpy(np.array(codes)))[:, : codec.latent_channels]
    np.testing.assert_allclose(latents, expected, rtol=1e-6)
    assert names["decoded"].shape == (len(codes), 3, 24, 24)


@pytest.mark.parametrize("format_name", EXPORT_FORMATS)
def test_samples_that_differ_in_size_are_refused(format_name, tmp_path):
    write_any_set(tmp_path, SampleLayout(make_spec(2), RAGGED["image"]), {"train": [2]})
    with pytest.raises(CallError, match="differ in size, but exports hold samples of one size; read the shards"):
        export_latents(tmp_path, tmp_path / "out", format_name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format_name", EXPORT_FORMATS)
def test_audio_without_labels(format_name, tmp_path):
    content = write_small_set(tmp_path, {"train": [3, 2]}, shape=(2, 7), labeled=False)
    export_latents(tmp_path, tmp_path / "out", format_name)
    codes, labels, keys = READERS[format_name](tmp_path / "out", "train", (2, 7))
    np.testing.assert_array_equal(codes, content["train"].codes)
    assert labels is None
    assert keys == content["train"].keys


@pytest.mark.parametrize("format_name", EXPORT_FORMATS)
def test_the_code_of_the_readme_converts_bytes_to_floats_and_signals(format_name, data_set, tmp_path, monkeypatch):
    if format_name == "webdataset":
        pytest.importorskip("webdataset")
    folder, content = data_set
    export_latents(folder, tmp_path / "out", format_name)
    monkeypatch.chdir(tmp_path / "out")
    blocks = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    for block in blocks:
        exec(block, names)
    expected = content["test"].codes  # the first split with samples, by name
    np.testing.assert_array_equal(names["codes"], expected)
    np.testing.assert_allclose(names["latents"], load_codec("gray-16x").spec.byte_values()[expected], rtol=1e-6)
    assert names["decoded"].shape == (2, 1, 16, 24)


@pytest.mark.parametrize("format_name", EXPORT_FORMATS)
def test_the_description_lists_every_file_with_its_hash(format_name, data_set, tmp_path):
    folder, _ = data_set
    export_latents(folder, tmp_path, format_name, splits=["test"])
    listed = load_export(tmp_path).files
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {*listed, DESCRIPTION_NAME}
    assert not any("train" in name for name in written)
    assert all(sha256_file(tmp_path / name) == entry.sha256 for name, entry in listed.items())


@pytest.mark.parametrize("format_name", EXPORT_FORMATS)
@pytest.mark.parametrize("stop_at", [0, 1, 2])
def test_an_interrupted_export_is_resumed_with_the_same_result(format_name, stop_at, data_set, tmp_path, monkeypatch):
    folder, _ = data_set
    uninterrupted = export_latents(folder, tmp_path / "uninterrupted", format_name)
    reads = []

    def read(*arguments, **options):
        reads.append(arguments)
        if len(reads) > stop_at:
            raise KeyboardInterrupt
        return export_job_read(*arguments, **options)

    export_job_read = export_job.read_verified_shard
    monkeypatch.setattr(export_job, "read_verified_shard", read)
    with pytest.raises(KeyboardInterrupt):
        export_latents(folder, tmp_path / "out", format_name)
    monkeypatch.undo()
    assert not (tmp_path / "out" / DESCRIPTION_NAME).exists()
    temporary = tmp_path / "out" / f".{'x' * 3}.{'0' * 16}.tmp"
    temporary.write_bytes(b"left by a killed writer")
    again = export_latents(folder, tmp_path / "out", format_name)
    assert again.to_bytes() == uninterrupted.to_bytes()
    assert not any(is_temporary(path.name) or path.name == "_work" for path in (tmp_path / "out").rglob("*"))


def test_a_finished_export_is_not_changed_and_foreign_folders_are_refused(data_set, tmp_path):
    folder, _ = data_set
    out = tmp_path / "out"
    export_latents(folder, out, "npy")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    export_latents(folder, out, "npy")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    for format_name, splits in (("parquet", None), ("npy", ["test"])):
        with pytest.raises(CallError, match="holds an export of another data set, format or split; give a new folder"):
            export_latents(folder, out, format_name, splits=splits)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("Chapter 1")
    with pytest.raises(CallError, match=r"holds other files \(chapter.txt\); give a new or empty folder"):
        export_latents(folder, tmp_path / "thesis", "npy")
    with pytest.raises(CallError, match="unknown export format 'parket'; nearest: parquet"):
        export_latents(folder, tmp_path / "new", "parket")
    with pytest.raises(CallError, match=r"unknown split 'tset'; nearest: test, extra; .* has extra, test, train"):
        export_latents(folder, tmp_path / "new", "npy", splits=["tset"])
    assert not (tmp_path / "new").exists()


def test_a_changed_description_is_refused(data_set, tmp_path):
    folder, _ = data_set
    export_latents(folder, tmp_path, "npy")
    path = tmp_path / DESCRIPTION_NAME
    path.write_bytes(path.read_bytes().replace(b'"form": "npy"', b'"form": "hf"'))
    with pytest.raises(DamagedError, match=r"walloc-cdl.json: digest is \w+…, expected \w+…; restore"):
        load_export(tmp_path)
    for name in ("../../x", "/x", ".x"):
        path.write_bytes(
            encode_json_with_digest({"format": "walloc-cdl export", "format_version": 1, "files": {name: {}}})
        )
        with pytest.raises(DamagedError):
            load_export(tmp_path)
    path.write_bytes(encode_json_with_digest({"format": "walloc-cdl export", "format_version": 2}))
    with pytest.raises(CallError, match="format version 2, this program reads 1; update walloc-cdl"):
        load_export(tmp_path)
    path.unlink()
    with pytest.raises(CallError, match=r"is not a finished export \(it has no walloc-cdl.json\); make one with"):
        load_export(tmp_path)


@pytest.mark.parametrize("format_name", EXPORT_FORMATS)
def test_a_damaged_sample_is_not_exported(format_name, tmp_path):
    content = write_small_set(tmp_path, {"train": [3]})
    path = tmp_path / "train-00000.safetensors"
    data = bytearray(path.read_bytes())
    data[bytes(data).index(content["train"].codes[1].tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match=r"train-00000.safetensors: 1 of 3 samples fail their CRC32C; restore"):
        export_latents(tmp_path, tmp_path / "out", format_name)
    assert {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} == {"state.json", "job.lock"}


def test_what_a_format_cannot_hold_is_refused(tmp_path):
    (tmp_path / "set").mkdir()
    write_small_set(tmp_path / "set", {"hold-out": [1]})
    with pytest.raises(CallError, match="split 'hold-out' has a name that `datasets` refuses"):
        export_latents(tmp_path / "set", tmp_path / "out", "hf")
    from datasets_prep.exports.export_format import Part
    from datasets_prep.exports.npy import NpyFormat
    from datasets_prep.folders.verified_read import ShardSamples

    manifest = load_manifest(tmp_path / "set")
    samples = ShardSamples(np.zeros((1, 2, 2, 3), np.uint8), None, ["two\nlines"])
    with pytest.raises(
        CallError, match=r"key 'two\\nlines' contains a line break, but the keys are written one per line"
    ):
        NpyFormat().write(io.BytesIO(), Part("train-keys.txt", "train", ()), manifest, [samples])


def test_load_from_disk_knows_class_names(data_set, tmp_path):
    import datasets

    export_latents(data_set[0], tmp_path / "out", "hf")
    rows = datasets.load_from_disk(str(tmp_path / "out"))["train"]
    assert rows.features["label"].names == CLASS_NAMES
    assert rows[0]["codes"].dtype == np.uint8
    assert isinstance(rows[0]["label"], int)


def test_datasets_knows_splits_and_class_names_of_a_parquet_export(data_set, tmp_path):
    datasets = pytest.importorskip("datasets")
    folder, content = data_set
    export_latents(folder, tmp_path / "out", "parquet", splits=["train", "test"])
    rows = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(part) for split, part in rows.items()} == {"train": 8, "test": 2}
    assert rows["train"].features["label"].names == CLASS_NAMES
    codes = np.frombuffer(b"".join(rows["train"]["codes"]), np.uint8).reshape(-1, 4, 2, 3)
    np.testing.assert_array_equal(codes, content["train"].codes)


def test_the_same_data_set_gives_the_same_tars(data_set, tmp_path):
    folder, _ = data_set
    first, second = (export_latents(folder, tmp_path / name, "webdataset") for name in ("a", "b"))
    assert first.to_bytes() == second.to_bytes()


@given(st.text(min_size=1), st.integers(0, 10**9))
def test_names_in_tars_are_plain_and_have_no_dot(key, number):
    name = sample_name(number, key)
    assert re.fullmatch(r"[0-9]{8,}-[A-Za-z0-9_\-]{1,60}", name)
    assert len(f"{name}.codes.npy") <= 100
