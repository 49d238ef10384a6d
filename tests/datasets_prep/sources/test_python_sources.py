"""Python data sets, streams, torchvision's data sets, folders at URLs."""

from __future__ import annotations

import gzip
import io
import pickle
import re
import struct
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PIL

from datasets_prep import IterableSource, MapSource, PrepareConfig, open_source, open_stream, prepare
from datasets_prep.decode.images import BadImageError, load_pixels, load_whole
from datasets_prep.samples.content import read_stored
from datasets_prep.samples.netpbm import encode_pixels
from datasets_prep.samples.stored import BadSignalError, FileSlice, UnusableSample
from datasets_prep.sources.core.keyed import KeyedSource
from tests.support.pictures import encoded, picture
from tests.support.reading_sources import assert_is_picture, keys, labels
from tests.support.trees import contents
from walloc_cdl.errors import CallError, JobError


class Photos:
    """A map-style data set, defined at module level so that it can be pickled."""

    def __init__(self, kinds=("cat", "dog", None)):
        self.kinds, self.loaded = kinds, 0

    def __len__(self):
        return len(self.kinds)

    def __getitem__(self, index):
        self.loaded += 1
        return picture(index), self.kinds[index]


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "RGBA", "1"])
def test_pixels_are_preserved(mode):
    image = picture(3, mode="RGB").convert(mode)
    for channels in (1, 3):
        expected = load_whole(encoded(image), channels)
        np.testing.assert_array_equal(load_whole(encode_pixels(image), channels), expected)


@pytest.mark.parametrize("steps", ["CMYK", "YCbCr", "HSV", "RGBX", "RGBA RGBa", "P PA", "LA La"])
def test_modes_that_png_does_not_have(steps):
    image = picture(3, mode="RGB")
    for mode in steps.split():
        image = image.convert(mode)
    shown = (image.convert("LA") if image.mode == "La" else image).convert("RGB")
    np.testing.assert_array_equal(load_whole(encode_pixels(image), 3), np.asarray(shown).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_modes_without_a_range_are_bad_samples_as_in_files(mode):
    with pytest.raises(BadImageError, match=r"pixels beyond 16 bits|LAB colors"):
        load_whole(encode_pixels(PIL.new(mode, (8, 8))), 3)


def test_arrays_bytes_and_paths(tmp_path):
    pixels = np.asarray(picture(0))
    np.testing.assert_array_equal(load_whole(encode_pixels(pixels), 3), pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(load_whole(encode_pixels(pixels[:, :, :1]), 1)[0], pixels[:, :, 0])
    assert encode_pixels(b"x") == b"x"
    assert encode_pixels(str(tmp_path)) == tmp_path
    for wrong in (pixels.astype(np.float32), pixels.transpose(2, 0, 1)[:2], 7):
        with pytest.raises(CallError, match=r"expected a PIL image, uint8 \(H, W\) or"):
            encode_pixels(wrong)


def test_map_style_data_sets():
    photos = Photos()
    source = MapSource(photos, name="photos")
    assert (source.class_names, labels(source), keys(source)[1]) == (["cat", "dog"], [0, 1, -1], "00000001")
    assert_is_picture(source.read("train", 2), 2)
    assert_is_picture(pickle.loads(pickle.dumps(source.part("train", 1, 3)))[0], 1)
    assert photos.loaded == 3 + 1


def test_map_style_data_sets_with_known_labels_are_not_loaded():
    photos = {"train": Photos(), "test": Photos(kinds=(0, 1))}
    source = MapSource(
        photos, name="photos", labels={"train": [1, 0, np.int64(-1)], "test": [1, 1]}, class_names=["x", "y"]
    )
    assert (labels(source), labels(source, "test"), source.class_names) == ([1, 0, -1], [1, 1], ["x", "y"])
    assert photos["train"].loaded == 0


def test_map_style_samples_of_another_form(tmp_path, rgb_codec):
    rows = [{"pixels": np.asarray(picture(n)), "kind": n % 2} for n in range(4)]
    source = MapSource(rows, name="rows", to_sample=lambda row: (row["pixels"], row["kind"]))
    assert source.class_names == ["0", "1"]
    manifest = prepare(source, rgb_codec, tmp_path / "out", PrepareConfig(size=32, workers=0))
    assert manifest.splits["train"].class_counts == [2, 2]
    with pytest.raises(CallError, match=r"sample 0 is a dict; expected \(image, label\); give to_sample"):
        MapSource(rows, name="rows")


def test_samples_with_keys_are_loaded_lazily():
    """The part of a source for a shard with stored views must not hold all its images in memory."""
    photos = Photos()
    source = KeyedSource(MapSource(photos, name="photos", labels=[0, 1, 0]))
    part = source.part("train", 1, 3)
    assert photos.loaded == 0
    sample = part[1]
    assert sample.key == "00000002"
    assert_is_picture(sample.stored, 2)
    assert photos.loaded == 1


def test_an_index_error_of_a_data_set_is_not_the_end_of_its_samples():
    """Otherwise the samples after it would be missing in shards and ledger."""
    part = MapSource({"train": Photos()}, name="photos", labels={"train": [0, 0, 0]}).part("train", 0, 3)
    assert len(list(part)) == 3
    short = MapSource(range(3), name="short", labels=[0, 0, 0], to_sample=lambda number: ([b"a"][number], 0))
    assert list(short.part("train", 0, 3)) == [
        b"a",
        *[UnusableSample("cannot be loaded: IndexError: list index out of range")] * 2,
    ]


def test_map_style_refusals():
    with pytest.raises(CallError, match="a generator has no length; use IterableSource for it"):
        MapSource((row for row in []), name="x")
    with pytest.raises(CallError, match="data set 'x' has no samples"):
        MapSource([], name="x")
    with pytest.raises(CallError, match="2 labels for the 3 samples of split 'train'"):
        MapSource(Photos(), name="x", labels=[0, 1])
    with pytest.raises(CallError, match=r"label 2; expected 0 to 0; check the labels"):
        MapSource(Photos((2,)), name="x", class_names=["a"])
    with pytest.raises(CallError, match=r"label '0\.5'; expected an integer, a name or None"):
        MapSource(Photos((0.5,)), name="x")


def test_iterables_are_streamed_from_any_start():
    source = IterableSource(lambda: ((picture(n), n % 2) for n in range(5)), name="numbers", class_names=["a", "b"])
    assert source.split_names == ["train"]
    rest = list(source.stream("train", 3))
    assert [(key, label) for key, label, _ in rest] == [("00000003", 1), ("00000004", 0)]
    assert_is_picture(rest[1][2], 4)
    assert len(list(source.stream("train"))) == 5
    with pytest.raises(CallError, match="has no split 'test'; it has train"):
        next(source.stream("test"))
    with pytest.raises(CallError, match="split 'train' is a generator; expected an iterable that can be iterated"):
        IterableSource((n for n in range(3)), name="x")
    assert len(list(IterableSource([(b"x", 0)] * 3, name="x").stream("train", 1))) == 2
    same = iter([(b"x", 0)] * 3)
    source = IterableSource(lambda: same, name="x")
    next(source.stream("train"))
    with pytest.raises(CallError, match="the function of split 'train' of source x returned the same iterator again"):
        next(source.stream("train"))
    with pytest.raises(CallError, match="class name 'a' of stream x occurs twice"):
        IterableSource([], name="x", class_names=["a", "b", "a"])
    reason = "sample 0 of split 'train' is a int; expected (image, label); give to_sample to convert it"
    assert next(IterableSource(lambda: [1], name="x").stream("train"))[2] == UnusableSample(reason)


def test_streams_of_the_hub(tmp_path):
    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
    data = Dataset.from_dict({"image": [picture(n) for n in range(3)], "label": [1, 0, 1]}, features=features)
    (tmp_path / "photos").mkdir()
    data.to_parquet(tmp_path / "photos" / "train-00000-of-00001.parquet")
    stream = open_stream(f"hf:{tmp_path / 'photos'}?streaming=1")
    assert (stream.split_names, stream.class_names) == (["train"], ["cat", "dog"])
    rest = list(stream.stream("train", 1))
    assert [(key, label) for key, label, _ in rest] == [("00000001", 0), ("00000002", 1)]
    assert_is_picture(rest[0][2], 1)
    with pytest.raises(CallError, match="as a stream has no listing and no access to single samples"):
        open_source(f"hf:{tmp_path / 'photos'}?streaming=1")
    with pytest.raises(CallError, match="is not a stream; expected hf:NAME"):
        open_stream("imagefolder:photos")


def test_arrays_of_torchvision(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    for name, values in (("train", pixels[:4]), ("t10k", pixels[4:])):
        numbers = np.arange(len(values), dtype=np.uint8)
        _write_idx(folder / f"{name}-images-idx3-ubyte", values)
        _write_idx(folder / f"{name}-labels-idx1-ubyte", numbers)
    source = open_source(f"torchvision:mnist?root={tmp_path}")
    assert (source.name, source.split_names) == ("MNIST", ["train", "test"])
    assert source.class_names[:2] == ["0 - zero", "1 - one"]
    assert (labels(source), source.channels) == ([0, 1, 2, 3], 1)
    np.testing.assert_array_equal(load_whole(source.read("test", 1), 1)[0], pixels[5])
    data = pickle.dumps(source.part("train", 1, 4))
    assert len(data) < 500
    np.testing.assert_array_equal(load_whole(pickle.loads(data)[2], 1)[0], pixels[3])


def _write_idx(path, values):
    header = struct.pack(f">I{values.ndim}I", 0x0800 + values.ndim, *values.shape)
    path.write_bytes(header + values.tobytes())
    with gzip.open(f"{path}.gz", "wb") as file:  # torchvision looks for the archive as well
        file.write(header + values.tobytes())


def test_files_of_torchvision(tmp_path, monkeypatch):
    folder = tmp_path / "imagenette2" / "train"
    for split in ("train", "val"):
        for number, synset in enumerate(("n01440764", "n02102040")):
            (tmp_path / "imagenette2" / split / synset).mkdir(parents=True)
            picture(number).save(tmp_path / "imagenette2" / split / synset / "a.JPEG", "PNG")
    source = open_source(f"torchvision:Imagenette?root={tmp_path}")
    assert source.split_names == ["train", "validation"]
    assert source.class_names == ["tench", "English springer"]
    assert keys(source) == ["imagenette2/train/n01440764/a.JPEG", "imagenette2/train/n02102040/a.JPEG"]
    assert source.read("train", 1) == folder / "n02102040" / "a.JPEG"
    assert source.num_bytes("train", 1) == (folder / "n02102040" / "a.JPEG").stat().st_size
    monkeypatch.setenv("HOME", str(tmp_path))
    home = open_source("torchvision:Imagenette?root=~")
    assert (home.absence(), keys(home)) == (None, keys(source))


def test_torchvision_refusals(tmp_path):
    with pytest.raises(CallError, match="unknown torchvision data set 'CIFAR11'; nearest: CIFAR10, CIFAR100"):
        open_source(f"torchvision:CIFAR11?root={tmp_path}")
    with pytest.raises(CallError, match=r"torchvision:CIFAR10 without a folder; give \?root=PATH"):
        open_source("torchvision:CIFAR10")
    with pytest.raises(
        CallError, match=r"torchvision:CIFAR10 is not in '.*': .*; give its folder, or use \?download=1"
    ):
        open_source(f"torchvision:CIFAR10?root={tmp_path}")


def test_folders_at_urls_equal_local_folders(make_folder):
    root = make_folder(splits=("train", "val"), each=2)
    (root / "train" / "cat" / "note.txt").write_text("-")
    (root / ".hidden.png").write_text("-")
    system = fsspec.filesystem("memory")
    system.put(str(root), "/photos", recursive=True)
    local = open_source(str(root))
    for text in ("memory://photos", f"file://{root}"):
        source = open_source(f"imagefolder:{text}")
        assert source.fingerprint() == local.fingerprint()
        assert (source.name, source.channels, source.absence()) == ("photos", 3, None)
        assert (
            load_pixels(source.read("train", 3), 32, 3).tobytes()
            == load_pixels(local.read("train", 3), 32, 3).tobytes()
        )
    source = open_source("imagefolder:memory://photos")
    system.rm("/photos", recursive=True)
    assert source.absence() == "the folder 'memory://photos'"


def test_refused_urls(tmp_path):
    with pytest.raises(CallError, match="image folder 'memory://nowhere' does not exist; give the URL of a folder"):
        open_source("imagefolder:memory://nowhere")
    with pytest.raises(CallError, match="http servers cannot list files; name the files in a table, csv:PATH"):
        open_source("imagefolder:https://example.org/photos")
    with pytest.raises(
        CallError, match=r"'nosuch://x' cannot be opened: .*; check it, and install the package that its scheme needs"
    ):
        open_source("imagefolder:nosuch://x")


class _Unreachable(fsspec.AbstractFileSystem):
    """Fails as the file systems of the Hub and of S3 do without network or credentials: with their packages' errors."""

    protocol = "unreachable"

    def _fail(self, *_, **__):
        raise RuntimeError("no credentials")

    ls = info = size = cat_file = _open = _fail


def test_file_systems_that_raise_other_errors(monkeypatch):
    monkeypatch.setattr("datasets_prep.samples.locations.RETRY_PAUSES_S", ())
    fsspec.register_implementation("unreachable", _Unreachable, clobber=True)
    for text in ("imagefolder:unreachable://a", "parquet:unreachable://a/*.parquet", "webdataset:unreachable://a.tar"):
        with pytest.raises(CallError, match=r"cannot be (listed|read): RuntimeError: no credentials"):
            open_source(text)
    with pytest.raises(BadSignalError, match="cannot be fetched: not reached"):
        read_stored(FileSlice("unreachable://a.png"))


def test_sixteen_bit_images_keep_their_depth():
    values = (np.arange(32 * 32, dtype=np.uint16) * 64).reshape(32, 32)
    stored = encode_pixels(PIL.fromarray(values))
    with PIL.open(io.BytesIO(stored)) as image:
        np.testing.assert_array_equal(np.asarray(image), values)


class Flawed:
    """A data set as of torchvision, in which single samples are flawed in several ways."""

    def __init__(self, folder: Path, flawed: bool = True):
        self.folder, self.flaws = folder, self.FLAWS if flawed else {}
        for number in range(24):
            picture(number, 30, 28).save(folder / f"{number:02d}.png")
        whole = (folder / "05.png").read_bytes()
        (folder / "05.png").write_bytes(whole[: len(whole) // 2])
        (folder / "06.png").write_bytes(b"no image")

    def __len__(self):
        return 24

    def __getitem__(self, index):
        if index in self.flaws:
            return self.flaws[index](self)
        with PIL.open(self.folder / f"{index:02d}.png") as image:
            return image.convert("RGB"), index % 2

    FLAWS: ClassVar = {
        1: lambda self: (None, 1),
        2: lambda self: None,
        3: lambda self: {}["no such column"],
        4: lambda self: Path(f"{self.folder}/a b\0.png").read_bytes(),
        7: lambda self: (np.zeros((4, 4), np.float32), 1),
        8: lambda self: 1 // 0,
        9: lambda self: int(f"{self.folder} of {object()}"),
    }


REASONS = {
    "00000001": "an image of type NoneType, object (); expected a PIL image, uint8 (H, W) or (H, W, 3), encoded bytes",
    "00000002": r"sample 2.* is a NoneType; expected (image, label); give to_sample to convert it",
    "00000003": "cannot be loaded: KeyError: 'no such column'",
    "00000004": "cannot be loaded: ValueError: embedded null byte",
    "00000005": "cannot be decoded: image file is truncated",
    "00000006": "not an image of a known format",
    "00000007": "an image of type ndarray, float32 (4, 4); expected a PIL image",
    "00000008": "cannot be loaded: ZeroDivisionError: ",
    "00000009": "cannot be loaded: ValueError: invalid literal for int() with base 10: '… of <object object at 0x…>'",
}


@pytest.mark.parametrize("kind", ["labels loaded", "labels known", "views", "workers", "stream"])
def test_flawed_samples_are_quarantined_with_their_keys(tmp_path, rgb_codec, kind):
    (tmp_path / "photos").mkdir()
    data = Flawed(tmp_path / "photos")
    labels = [number % 2 for number in range(24)]
    if kind == "stream":
        source = IterableSource(range(24), name="p", to_sample=data.__getitem__, class_names=["even", "odd"])
    elif kind == "labels loaded":
        source = MapSource(data, name="p")
    else:
        source = MapSource(data, name="p", labels=labels)
    views = "flip" if kind == "views" else None
    config = PrepareConfig(size=16, workers=1 if kind == "workers" else 0, views=views)
    manifest = prepare(source, rgb_codec, tmp_path / "out", config)
    assert manifest.splits["train"].num_samples == 24 - len(REASONS)
    ledger = pq.read_table(tmp_path / "out/ledger.parquet").to_pylist()
    found = {row["key"]: row["reason"] for row in ledger if row["reason"]}
    assert list(found) == list(REASONS)
    for key, reason in REASONS.items():
        assert re.match(re.escape(reason).replace(re.escape(".*"), ".*"), found[key]), found[key]
        assert str(tmp_path) not in found[key]
    good = [row for row in ledger if not row["reason"]]
    assert [row["label"] for row in good] == [int(row["key"]) % 2 for row in good]


def test_a_call_that_is_wrong_for_all_samples_is_refused(tmp_path, rgb_codec):
    pairs = [(np.zeros((8, 8, 3), np.float32), 0)] * 8
    stream = IterableSource(pairs, name="p", class_names=["a"])
    for source in (MapSource(pairs, name="p"), MapSource(pairs, name="p", labels=[0] * 8), stream):
        with pytest.raises(CallError, match="cannot be used; the first: an image of type ndarray, float32"):
            prepare(source, rgb_codec, tmp_path / "out", PrepareConfig(size=16))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("streamed", [False, True])
def test_files_of_a_python_data_set_that_go_away_stop_the_job(tmp_path, rgb_codec, streamed):
    (tmp_path / "photos").mkdir()
    data, kept = Flawed(tmp_path / "photos", flawed=False), tmp_path / "kept"
    paths = [(tmp_path / f"photos/{number:02d}.png", number % 2) for number in range(24)]

    def sources():
        """Two sources: of images that the data set opens, and of paths."""
        if not streamed:
            return [MapSource(data, name="p"), MapSource(paths, name="p")]
        stream = IterableSource(range(24), name="p", to_sample=data.__getitem__, class_names=["even", "odd"])
        return [stream, IterableSource(paths, name="p", class_names=["even", "odd"])]

    config = PrepareConfig(size=16, shard_samples=4, workers=0)
    for number, source in enumerate(sources()):
        out, undisturbed = tmp_path / f"out{number}", tmp_path / f"undisturbed{number}"
        prepare(source, rgb_codec, undisturbed, config)

        def leave(state, out=out):
            if list(out.glob("*.safetensors")) and (tmp_path / "photos").exists():
                (tmp_path / "photos").rename(kept)

        with pytest.raises(JobError, match="no such file"):
            prepare(source, rgb_codec, out, config, progress=leave)
        kept.rename(tmp_path / "photos")
        prepare(sources()[number], rgb_codec, out, config)
        assert contents(out) == contents(undisturbed)
