"""Audio latents, (K, t), behave like those of images."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.support.small_sets import make_spec, write_small_set
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.latents import load_manifest, manifest_from_json, open_shard, verify, write_shard

SHAPE = (3, 7)


@pytest.fixture
def stored(tmp_path):
    return tmp_path, write_small_set(tmp_path, {"train": [4, 2], "test": [3]}, shape=SHAPE)


def test_written_codes_are_read_back(stored):
    folder, content = stored
    manifest = load_manifest(folder)
    assert manifest.latent_shape == SHAPE
    assert manifest.spec.axes == ("K", "t")
    shards = [open_shard(folder / entry.name, entry, manifest.layout) for entry in manifest.shards_of("train")]
    np.testing.assert_array_equal(np.concatenate([shard.codes for shard in shards]), content["train"].codes)
    assert verify(folder, full=True).problems == []


def test_a_changed_byte_is_detected(stored):
    folder, content = stored
    path = folder / "train-00001.safetensors"
    data = bytearray(path.read_bytes())
    position = data.index(content["train"].codes[4].tobytes())
    data[position] ^= 1
    path.write_bytes(data)
    assert any("1 of 2 samples fail their CRC32C (row 0: " in line for line in verify(folder, full=True).problems)


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_the_kind_determines_the_number_of_sizes(tmp_path, kind):
    spec, wanted = make_spec(2, kind), "h, w" if kind == "image" else "t"
    codes = np.ones((1, 2, 3) if kind == "image" else (1, 2, 3, 4), np.uint8)
    with pytest.raises(CallError) as caught:
        write_shard(tmp_path, "a.safetensors", spec=spec, split="train", codes=codes, labels=None, keys=["a"])
    assert f"expected uint8 [N, 2, {wanted}]" in str(caught.value)


def test_a_manifest_whose_sizes_contradict_its_kind_is_refused(stored):
    folder, _ = stored
    values = json.loads((folder / "manifest.json").read_text())
    values.pop("digest")
    for shape in ([3, 7, 1], [3], [3, 7, 1, 1]):
        with pytest.raises(DamagedError, match=r"latent[_ ]shape"):
            manifest_from_json({**values, "latent_shape": shape})
