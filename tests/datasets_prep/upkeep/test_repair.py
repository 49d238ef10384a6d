"""`repair` restores a damaged data set byte for byte, or reports what is lost."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Image

from datasets_prep import PrepareConfig, open_source, open_stream, prepare
from datasets_prep.sources.core.splits import holdout
from datasets_prep.upkeep.drop import drop
from datasets_prep.upkeep.encode_again import RepairConfig
from datasets_prep.upkeep.repair import repair
from tests.support.any_sets import write_any_set
from tests.support.pictures import encoded, picture
from tests.support.small_sets import make_spec
from tests.support.trees import all_files
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.latents import LabelSpec, SampleLayout, load_manifest, verify
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, parse_json_with_digest

LAYOUT = SampleLayout(make_spec(2), (2, 2, 3), LabelSpec("class", 3))
SMALL = PrepareConfig(size=32, shard_samples=5, workers=0)


@pytest.fixture
def folder(tmp_path) -> Path:
    write_any_set(tmp_path / "set", LAYOUT, {"train": [3, 2], "test": [2]})
    return tmp_path / "set"


def flip(path: Path, position: int = -20) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.write_bytes(data)


NAMES = ("manifest.json", "provenance.json", "ledger.parquet", "codec/config.json")


@pytest.mark.parametrize("name", [*NAMES, *(f"copy/{name}" for name in NAMES)])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_every_file_except_shards_is_restored_from_its_copy_and_vice_versa(folder, name, damage):
    before = all_files(folder)
    if damage == "flipped":
        flip(folder / name)
    elif damage == "cut":
        (folder / name).write_bytes(before[name][:-1])
    else:
        (folder / name).unlink()
    result = repair(folder)
    assert (result.restored, result.encoded, result.problems) == ([name], [], [])
    assert all_files(folder) == before


def test_flipped_bits_of_all_files_except_shards(folder):
    before, draw = all_files(folder), random.Random(0)
    for _ in range(150):
        name = draw.choice([name for name in before if not name.endswith(".safetensors")])
        data = bytearray(before[name])
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        (folder / name).write_bytes(data)
        assert repair(folder).restored == [name]
        assert all_files(folder) == before


def test_an_intact_data_set_is_not_changed(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}
    result = repair(folder)
    assert (result.edit_ended, result.restored, result.encoded, result.problems) == (False, [], [], [])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")} == before


def test_the_message_of_a_damaged_manifest_names_the_command(folder):
    flip(folder / "manifest.json")
    with pytest.raises(DamagedError, match=rf"; `cdl repair {folder}` restores it from its copy"):
        load_manifest(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(DamagedError, match=rf"has lost its manifest\.json; `cdl repair {folder}` restores it"):
        load_manifest(folder)


def test_unrecoverable_files_are_reported(folder):
    for name in ("codec/config.json", "copy/codec/config.json", "provenance.json", "copy/provenance.json"):
        flip(folder / name, 2)
    flip(folder / "train-00000.safetensors")
    problems = repair(folder).problems
    assert problems == [
        f"{folder}/codec/config.json: damaged, and so is its copy; prepare the data set again",
        f"{folder}/provenance.json: damaged, and so is its copy; remove both: they only record when and with what "
        "the data set was made",
        f"{folder}/train-00000.safetensors: damaged or missing; `cdl repair {folder} --source SOURCE` encodes it again",
    ]
    for name in ("manifest.json", "copy/manifest.json"):
        flip(folder / name)
    with pytest.raises(DamagedError, match=r"neither .*manifest\.json nor .*copy/manifest\.json is intact; prepare"):
        repair(folder)


def test_a_forged_copy_does_not_replace_a_good_manifest(folder):
    before = all_files(folder)
    path = folder / "copy/manifest.json"
    path.write_bytes(
        encode_json_with_digest(
            {**parse_json_with_digest(path.read_bytes(), origin="m"), "source": {"name": "another"}}
        )
    )
    assert repair(folder).restored == ["copy/manifest.json"]
    assert all_files(folder) == before


def test_no_data_set_and_an_unfinished_job(tmp_path):
    with pytest.raises(CallError, match="is not a data set"):
        repair(tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "_work").mkdir()
    (tmp_path / "_work/plan.json").write_text("{}")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/manifest.json").write_text("{}")
    with pytest.raises(CallError, match="is not a data set"):
        repair(tmp_path)


@pytest.fixture
def prepared(make_folder, rgb_codec, tmp_path):
    """A source of 24 images, one of them unusable, and its data set in six shards."""
    root = make_folder()
    (root / "train/cat/03.png").write_bytes(b"no image")
    prepare(open_source(f"imagefolder:{root}"), rgb_codec, tmp_path / "out", SMALL)
    return root, tmp_path / "out"


def source_of(root: Path) -> RepairConfig:
    return RepairConfig(open_source(f"imagefolder:{root}"), workers=0)


def test_shards_are_encoded_again_to_the_same_bytes(prepared):
    root, out = prepared
    before = all_files(out)
    flip(out / "train-00000.safetensors")
    (out / "test-00001.safetensors").unlink()
    (out / "test-00002.safetensors").write_bytes(b"")
    flip(out / "manifest.json")
    result = repair(out, source_of(root))
    assert result.encoded == ["train-00000.safetensors", "test-00001.safetensors", "test-00002.safetensors"]
    assert result.restored == ["manifest.json"]
    assert result.problems == []
    assert all_files(out) == before


def test_after_a_drop(prepared):
    root, out = prepared
    keys = ["train/cat/00.png", "train/dog/05.png"]
    drop(out, keys)
    before = all_files(out)
    for name in ("train-00000.safetensors", "train-00002.safetensors"):
        (out / name).unlink()
    assert repair(out, source_of(root)).problems == []
    assert all_files(out) == before


def test_with_duplicates_dropped(make_folder, rgb_codec, tmp_path):
    root, out = make_folder(), tmp_path / "out"
    shutil.copy(root / "train/cat/00.png", root / "train/cat/02.png")
    config = PrepareConfig(size=32, shard_samples=5, workers=0, drop_duplicates=True)
    prepare(open_source(f"imagefolder:{root}"), rgb_codec, out, config)
    before = all_files(out)
    (out / "train-00000.safetensors").unlink()
    assert repair(out, source_of(root)).problems == []
    assert all_files(out) == before


def test_with_a_holdout_and_a_limit(make_folder, rgb_codec, tmp_path):
    root, out = make_folder(splits=("",)), tmp_path / "out"
    source = holdout(open_source(f"imagefolder:{root}"), 0.25, 3)
    prepare(source, rgb_codec, out, PrepareConfig(size=32, shard_samples=4, workers=0, limit=7))
    before = all_files(out)
    (out / "train-00001.safetensors").unlink()
    with pytest.raises(CallError, match=r"with the same --labels, --holdout and --seed"):
        repair(out, source_of(root))
    assert repair(out, RepairConfig(source, workers=0)).encoded == ["train-00001.safetensors"]
    assert all_files(out) == before


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_limit_counts_the_samples_of_the_data_set(make_folder, rgb_codec, tmp_path, is_stream):
    out, config = tmp_path / "out", PrepareConfig(size=32, shard_samples=3, workers=0, limit=6, seed=2)
    if is_stream:
        name = saved_photos(tmp_path, 10)
        source = open_source(name)
        manifest = prepare(open_stream(f"{name}?streaming=1"), rgb_codec, out, config)
        assert manifest.splits["train"].class_counts == [5, 1]
    else:
        root = make_folder(splits=["train"], classes=("b", "c"), each=5)
        source = open_source(str(root))
        assert prepare(source, rgb_codec, out, config).splits["train"].class_counts == [3, 3]
    before = all_files(out)
    assert prepare(source, rgb_codec, out, replace(config, extend=True)).source["num_samples"] == {"train": 6}
    assert all_files(out) == before  # nothing to extend
    if not is_stream:
        for number in range(10):  # before all others in the order of the source
            (root / "train" / "a").mkdir(exist_ok=True)
            picture(50 + number).save(root / "train" / "a" / f"{number}.png")
        source = open_source(str(root))
    manifest = prepare(source, rgb_codec, out, replace(config, limit=9, extend=True))
    assert manifest.splits["train"].num_samples == 9
    assert (manifest.source["limit"], manifest.source["limit_seed"]) == (9, 2)
    before = all_files(out)
    for name in ("train-00000.safetensors", "train-00002.safetensors"):
        (out / name).unlink()
    assert repair(out, RepairConfig(source, workers=0)).problems == []
    assert all_files(out) == before


def saved_photos(folder: Path, count: int, broken: int | None = None) -> str:
    """Write a data set of two classes, sorted, and return its name as a source; the image `broken` has no pixels."""
    features = Features({"image": Image(decode=False), "label": ClassLabel(names=["b", "c"])})
    images = [encoded(picture(n)) for n in range(count)]
    images = [bytes(len(data)) if n == broken else data for n, data in enumerate(images)]
    rows = {
        "image": [{"bytes": data, "path": None} for data in images],
        "label": [2 * n // count for n in range(count)],
    }
    Dataset.from_dict(rows, features=features).save_to_disk(folder / "saved")
    return f"hf:{folder / 'saved'}"


def test_the_first_samples_of_a_stream_are_encoded_again(rgb_codec, tmp_path):
    name, out = saved_photos(tmp_path, 12), tmp_path / "out"
    config = PrepareConfig(size=32, shard_samples=3, workers=0, limit=7)
    prepare(open_stream(f"{name}?streaming=1"), rgb_codec, out, config)
    before = all_files(out)
    (out / "train-00001.safetensors").unlink()
    assert repair(out, RepairConfig(open_source(name), workers=0)).encoded == ["train-00001.safetensors"]
    assert all_files(out) == before


def test_samples_of_a_limited_stream_are_tried_again(rgb_codec, tmp_path):
    out = tmp_path / "out"
    config = PrepareConfig(size=32, shard_samples=3, workers=0, limit=7)
    stream = open_stream(f"{saved_photos(tmp_path / 'broken', 12, broken=4)}?streaming=1")
    assert prepare(stream, rgb_codec, out, config).splits["train"].num_samples == 6
    before = load_manifest(out).source
    source = open_source(saved_photos(tmp_path / "mended", 12))
    repair(out, RepairConfig(source, workers=0))
    manifest = load_manifest(out)
    assert (manifest.splits["train"].num_samples, manifest.source) == (7, before)


def test_a_source_that_changed_is_refused(prepared):
    root, out = prepared
    (out / "train-00000.safetensors").unlink()
    before = all_files(out)
    (root / "train/cat/99.png").write_bytes((root / "train/cat/00.png").read_bytes())
    with pytest.raises(CallError, match=r"was made from another source: its source\.(fingerprint|num_samples)"):
        repair(out, source_of(root))
    assert all_files(out) == before


def test_content_that_changed_at_the_same_size_does_not_take_the_place(prepared):
    root, out = prepared
    (out / "train-00000.safetensors").unlink()
    good = root / "train/cat/00.png"
    good.write_bytes(bytes(good.stat().st_size))
    (problem,) = repair(out, source_of(root)).problems
    assert "train-00000.safetensors: encoded again, its SHA-256 is " in problem
    assert "a file of the source has changed at the same size" in problem
    assert not (out / "train-00000.safetensors").exists()
    assert not (out / "_work").exists()
    assert verify(out).damaged_files == ["train-00000.safetensors"]


def test_shards_of_before_and_after_an_extension(prepared, rgb_codec):
    root, out = prepared
    for number in range(3):  # a class before the others, whose samples come first now, and one more of a known class
        (root / "train/bird").mkdir(exist_ok=True)
        shutil.copy(root / f"train/cat/0{number}.png", root / f"train/bird/0{number}.png")
    (root / "train/bird/04.png").write_bytes(b"no image")
    shutil.copy(root / "test/dog/02.png", root / "test/cat/00a.png")
    prepare(open_source(f"imagefolder:{root}"), rgb_codec, out, replace(SMALL, extend=True))
    drop(out, ["train/cat/01.png", "train/bird/01.png"])
    before = all_files(out)
    shards = [entry.name for entry in load_manifest(out).shards]
    assert len(shards) == 8
    for name in shards:
        (out / name).unlink()
    result = repair(out, source_of(root))
    assert (result.problems, sorted(result.encoded)) == ([], sorted(shards))
    assert all_files(out) == before


def test_an_extended_data_set_whose_source_has_lost_a_sample(prepared, rgb_codec):
    root, out = prepared
    (root / "train/cat/02.png").unlink()
    shutil.copy(root / "test/dog/02.png", root / "test/dog/99.png")
    prepare(open_source(f"imagefolder:{root}"), rgb_codec, out, replace(SMALL, extend=True))
    for name in ("train-00000.safetensors", "test-00003.safetensors"):
        (out / name).unlink()
    result = repair(out, source_of(root))
    assert result.encoded == ["test-00003.safetensors"]
    (problem,) = result.problems
    assert "train-00000.safetensors: its sample 'train/cat/02.png' is not in split 'train' of the source" in problem
