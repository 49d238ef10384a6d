from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from datasets_prep import PrepareConfig, Progress, load_pixels, open_source, prepare
from datasets_prep.sources.core.source import Listing, Source, SplitListing
from tests.support.pictures import picture
from tests.support.trees import contents
from walloc_cdl.codec import ResizeCodec, ResizeConfig, load_codec_folder
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.latents import load_manifest, load_provenance, verify

SMALL = PrepareConfig(size=32, shard_samples=5, workers=0)


def ledger_rows(folder):
    return pq.read_table(folder / "ledger.parquet").to_pylist()


def refusal(*arguments, **options):
    with pytest.raises(CallError) as caught:
        prepare(*arguments, **options)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_data_set_holds_the_encoded_samples_in_order(make_folder, rgb_codec, tmp_path):
    source = open_source(str(make_folder()))
    manifest = prepare(source, rgb_codec, tmp_path / "out", SMALL)
    assert [(entry.name, entry.num_samples) for entry in manifest.shards] == [
        ("train-00000.safetensors", 5),
        ("train-00001.safetensors", 5),
        ("train-00002.safetensors", 2),
        ("test-00000.safetensors", 5),
        ("test-00001.safetensors", 5),
        ("test-00002.safetensors", 2),
    ]
    assert manifest.class_names == ["cat", "dog"]
    assert manifest.splits["test"].class_counts == [6, 6]
    assert verify(tmp_path / "out", full=True).problems == []
    for split in ("train", "test"):
        dataset = open_latents(tmp_path / "out", split)
        rows = np.arange(12)
        codes, labels = dataset.gather(rows)
        pixels = np.stack([load_pixels(source.read(split, index), 32, 3) for index in rows])
        one_by_one = [rgb_codec.encode(torch.from_numpy(sample[None]))[0] for sample in pixels]
        assert torch.equal(codes, torch.stack(one_by_one))
        assert labels.tolist() == [0] * 6 + [1] * 6
        assert dataset.keys(rows) == [source.key(split, index) for index in rows]
    codec = load_codec_folder(tmp_path / "out" / "codec")
    assert codec.spec == rgb_codec.spec
    assert sorted(open_latents(tmp_path / "out").synthesis_bank) == [1, 2, 3, 4]


def test_histograms_count_every_stored_byte(make_folder, rgb_codec, tmp_path):
    manifest = prepare(open_source(str(make_folder())), rgb_codec, tmp_path / "out", SMALL)
    codes, _ = open_latents(tmp_path / "out", "test").gather(np.arange(12))
    for channel in range(3):
        counts = np.bincount(codes[:, channel].numpy().ravel(), minlength=256)
        assert manifest.histograms["test"][channel].tolist() == counts.tolist()


def test_manifest_and_provenance_describe_the_job(make_folder, rgb_codec, tmp_path):
    source = open_source(str(make_folder()))
    prepare(source, rgb_codec, tmp_path / "out", SMALL)
    manifest = load_manifest(tmp_path / "out")
    assert manifest.source["name"] == "photos"
    assert manifest.source["num_samples"] == {"train": 12, "test": 12}
    assert manifest.source["fingerprint"] == source.fingerprint()
    assert manifest.preprocessing["size"] == 32
    assert manifest.latent_shape == (3, 8, 8)
    assert str(tmp_path) not in (tmp_path / "out/manifest.json").read_text()
    provenance = load_provenance(tmp_path / "out")
    rates = {"value": 0.0, "batch": 0.0, "threads": 0.0, "device": 0.0}
    assert provenance["flip_rate"] == {**rates, "num_codes": 12 * 3 * 8 * 8}
    assert provenance["precision"] == "fp32"
    assert provenance["num_encoded"] == 24
    assert provenance["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_bytes_do_not_depend_on_workers(make_folder, rgb_codec, tmp_path):
    root = make_folder(splits=("train",), each=20)
    (root / "train/cat/07.png").write_bytes(b"-")
    results = []
    for workers in (0, 1, 2):
        config = PrepareConfig(size=32, shard_samples=18, workers=workers)
        prepare(open_source(str(root)), rgb_codec, tmp_path / f"out{workers}", config)
        results.append(contents(tmp_path / f"out{workers}"))
    assert results[0] == results[1] == results[2]


def test_codes_do_not_depend_on_the_batch(make_folder, rgb_codec, tmp_path):
    source = open_source(str(make_folder()))
    for batch in (1, 7, 32):
        prepare(source, rgb_codec, tmp_path / f"{batch}", PrepareConfig(size=32, workers=0, batch=batch))
    assert contents(tmp_path / "1") == contents(tmp_path / "7") == contents(tmp_path / "32")


def test_bad_images_go_to_the_ledger(make_folder, rgb_codec, tmp_path):
    root = make_folder(splits=("train",), each=4)
    whole = (root / "train/cat/02.png").read_bytes()
    (root / "train/cat/00.png").write_bytes(b"")
    (root / "train/cat/02.png").write_bytes(whole[: len(whole) // 2])
    (root / "train/dog/03.png").unlink()
    (root / "train/dog/03.png").symlink_to("nowhere.png")
    (root / "train/readme.txt").write_text("-")
    seen = []
    manifest = prepare(open_source(str(root)), rgb_codec, tmp_path / "out", SMALL, progress=seen.append)
    assert manifest.splits["train"].num_samples == 5
    assert manifest.splits["train"].class_counts == [2, 3]
    assert manifest.ledger["num_rows"] == 9
    assert manifest.ledger["num_stored"] == 5
    assert manifest.ledger["num_quarantined"] == 4
    assert manifest.ledger["reasons"]["empty file"] == 1
    assert manifest.ledger["reasons"]["no such file"] == 1
    assert (seen[-1].done, seen[-1].total, seen[-1].quarantined) == (8, 8, 3)
    rows = ledger_rows(tmp_path / "out")
    assert [row["key"] for row in rows] == [
        *(f"train/cat/{number:02d}.png" for number in range(4)),
        *(f"train/dog/{number:02d}.png" for number in range(4)),
        "train/readme.txt",
    ]
    stored = [(row["key"], row["shard"], row["row"]) for row in rows if row["reason"] is None]
    assert stored == [
        ("train/cat/01.png", "train-00000.safetensors", 0),
        ("train/cat/03.png", "train-00000.safetensors", 1),
        ("train/dog/00.png", "train-00000.safetensors", 2),
        ("train/dog/01.png", "train-00001.safetensors", 0),
        ("train/dog/02.png", "train-00001.safetensors", 1),
    ]
    assert open_latents(tmp_path / "out").keys(np.arange(5)) == [key for key, _, _ in stored]
    assert rows[-1] == {
        **dict.fromkeys(("shard", "row", "sha256", "duplicate_of")),
        "split": "train",
        "key": "train/readme.txt",
        "label": -1,
        "num_bytes": 1,
        "reason": "not an image file name",
    }
    assert verify(tmp_path / "out", full=True).problems == []


def test_no_usable_image_fails_the_job(make_folder, rgb_codec, tmp_path):
    root = make_folder(each=2)
    for path in (root / "train").rglob("*.png"):
        path.write_bytes(b"-")
    with pytest.raises(
        JobError, match=r"none of the 4 images of split 'train' is usable \(the first: not an image of a known format\)"
    ):
        prepare(open_source(str(root)), rgb_codec, tmp_path / "out", SMALL)
    assert not (tmp_path / "out/manifest.json").exists()


class Memory(Source):
    """Splits of pictures with given keys."""

    def __init__(self, **splits: list[str]) -> None:
        listings = {
            split: SplitListing(keys, np.zeros(len(keys), np.int64), np.ones(len(keys), np.int64))
            for split, keys in splits.items()
        }
        super().__init__("memory", Listing(listings, ["only"]))

    def read(self, split, index):
        from tests.support.pictures import encoded

        key = self.key(split, index)
        return b"-" if key.startswith("bad") else encoded(picture(len(key)))


def test_empty_splits_splits_without_usable_images_and_unicode_keys(rgb_codec, tmp_path):
    source = Memory(train=["naïve/Ω.png", "写真.png"], validation=[], test=["bad1", "bad2"])
    manifest = prepare(source, rgb_codec, tmp_path / "out", SMALL)
    assert {name: summary.num_samples for name, summary in manifest.splits.items()} == {
        "train": 2,
        "validation": 0,
        "test": 0,
    }
    assert open_latents(tmp_path / "out").keys([0, 1]) == ["naïve/Ω.png", "写真.png"]
    assert verify(tmp_path / "out", full=True).problems == []


def test_a_source_without_a_train_split(rgb_codec, tmp_path):
    manifest = prepare(Memory(test=["a", "bb"]), rgb_codec, tmp_path / "out", SMALL)
    assert list(manifest.splits) == ["test"]


def test_unlabeled_images_have_no_labels(rgb_codec, tmp_path):
    (tmp_path / "flat").mkdir()
    for number in range(3):
        picture(number).save(tmp_path / "flat" / f"{number}.png")
    manifest = prepare(open_source(str(tmp_path / "flat")), rgb_codec, tmp_path / "out", SMALL)
    assert manifest.class_names is None
    assert manifest.splits["train"].class_counts is None
    assert open_latents(tmp_path / "out").labels.tolist() == [-1, -1, -1]


def test_limit_takes_the_same_share_of_each_class(make_folder, rgb_codec, tmp_path):
    config = PrepareConfig(size=32, workers=0, limit=4)
    manifest = prepare(open_source(str(make_folder())), rgb_codec, tmp_path / "out", config)
    assert manifest.splits["train"].class_counts == [2, 2]
    assert manifest.splits["test"].num_samples == 4
    assert (manifest.source["limit"], manifest.source["limit_seed"]) == (4, 0)
    config = replace(config, seed=1)
    with pytest.raises(CallError, match=r"holds a finished data set with source\.fingerprint"):
        prepare(open_source(str(tmp_path / "photos")), rgb_codec, tmp_path / "out", config)


def test_gray_and_color_are_not_mixed(make_folder, rgb_codec, gray_codec, tmp_path):
    color, gray = (open_source(str(make_folder(mode, mode=mode, each=1))) for mode in ("RGB", "L"))
    assert refusal(color, gray_codec, tmp_path / "out", SMALL) == (
        "the images of source RGB are in color (channels: 3), but codec resize-gray-16x takes channels: 1; "
        "use a codec for such images, such as rgb-16x"
    )
    assert "source L are gray (channels: 1)" in refusal(gray, rgb_codec, tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()
    assert prepare(gray, gray_codec, tmp_path / "out", SMALL).latent_shape == (1, 8, 8)


def test_sizes_off_the_stride(make_folder, rgb_codec, tmp_path):
    text = refusal(open_source(str(make_folder(each=1))), rgb_codec, tmp_path / "out", PrepareConfig(size=30))
    assert "30 is not a multiple of the stride 4" in text
    assert "28, 32" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("size", 0), ("shard_samples", 0), ("workers", -1), ("batch", 0), ("limit", 0)]
)
def test_settings_out_of_range(name, value):
    with pytest.raises(CallError, match=f"{name} is {value}; it must be at least"):
        PrepareConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("size", 100_000, "size is 100,000, which would fill the memory; choose at most 4,096, or geometry ragged"),
        ("batch", 10**9, "batch is 1,000,000,000, which would fill the memory; choose at most 4,096"),
        ("workers", 5000, "workers is 5,000, which would fill the memory; choose at most 1,024"),
    ],
)
def test_settings_that_would_fill_the_memory_are_refused(name, value, said):
    with pytest.raises(CallError, match=said):
        PrepareConfig(**{name: value})


def test_unknown_device(make_folder, rgb_codec, tmp_path):
    text = refusal(open_source(str(make_folder(each=1))), rgb_codec, tmp_path / "out", PrepareConfig(device="abacus"))
    assert text == "device 'abacus' is not a torch device; use cpu, cuda or cuda:N"


def test_the_callers_codec_and_torch_settings_are_not_changed(make_folder, rgb_codec, tmp_path):
    before = torch.backends.mkldnn.conv.fp32_precision
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    try:
        with torch.autocast("cpu", torch.bfloat16):
            prepare(open_source(str(make_folder())), rgb_codec, tmp_path / "low", SMALL)
        assert torch.backends.mkldnn.conv.fp32_precision == "bf16"
    finally:
        torch.backends.mkldnn.conv.fp32_precision = before
    prepare(open_source(str(tmp_path / "photos")), rgb_codec, tmp_path / "out", SMALL)
    assert contents(tmp_path / "low") == contents(tmp_path / "out")
    assert not torch.is_inference_mode_enabled()


def test_progress_ends_at_the_total(make_folder, rgb_codec, tmp_path):
    seen: list[Progress] = []
    prepare(open_source(str(make_folder())), rgb_codec, tmp_path / "out", SMALL, progress=seen.append)
    assert [step.done for step in seen] == sorted(step.done for step in seen)
    assert (seen[-1].done, seen[-1].total) == (24, 24)
    assert seen[-1].note.startswith("fitting the linear synthesis")


def test_the_folder_is_json_and_safetensors_and_parquet_only(make_folder, rgb_codec, tmp_path):
    prepare(open_source(str(make_folder())), rgb_codec, tmp_path / "out", SMALL)
    names = {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert names == {".json", ".safetensors", ".parquet"}
    assert json.loads((tmp_path / "out/manifest.json").read_text())["ledger"]["num_quarantined"] == 0
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith(("_", "."))]


def test_codecs_of_other_channel_counts_are_refused(make_folder, tmp_path):
    eight = ResizeCodec(ResizeConfig(channels=8, factor=4, name="bands"))
    text = refusal(open_source(str(make_folder(each=1))), eight, tmp_path / "out", SMALL)
    assert "codec bands takes channels: 8" in text


def test_a_folder_as_a_url(make_folder, rgb_codec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = open_source(str(make_folder()))
    prepare(source, rgb_codec, f"file://{tmp_path}/out", SMALL)
    extended = prepare(source, rgb_codec, f"file://{tmp_path}/out", replace(SMALL, extend=True))
    assert extended.to_json() == load_manifest(tmp_path / "out").to_json()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]
