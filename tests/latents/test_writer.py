import os

import numpy as np
import pytest

from tests.support.small_sets import draw_samples, make_spec
from walloc_cdl.errors import CallError
from walloc_cdl.latents import load_provenance, write_provenance, write_shard


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": np.zeros((3, 2, 2, 3), np.uint8)}, "code bytes from 0 to 0, expected 1 to 255"),
        ({"codes": np.ones((3, 2, 2, 3), np.int8)}, r"codes are int8 \[3, 2, 2, 3\], expected uint8 \[N, 2, h, w\]"),
        ({"codes": np.ones((3, 5, 2, 3), np.uint8)}, r"codes are uint8 \[3, 5, 2, 3\], expected uint8 \[N, 2, h, w\]"),
        ({"labels": np.zeros(2, np.int64)}, r"labels are int64 \[2\], expected int64 \[3\]"),
        ({"labels": np.zeros(3, np.int32)}, r"labels are int32 \[3\], expected int64 \[3\]"),
        ({"labels": np.array([0, -2, 1])}, "label -2, expected a class number, or -1 for unknown"),
        ({"keys": ["a", "b"]}, "2 keys for 3 samples"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path, changes, message):
    samples = draw_samples(np.random.default_rng(0), 3)
    arguments = {"codes": samples.codes, "labels": samples.labels, "keys": samples.keys} | changes
    with pytest.raises(CallError, match=message):
        write_shard(tmp_path, "train-00000.safetensors", spec=make_spec(), split="train", **arguments)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["../train.safetensors", "/train.safetensors", ".safetensors", "train.bin", "a b.safetensors"]
)
def test_shard_names_are_plain(tmp_path, name):
    samples = draw_samples(np.random.default_rng(0), 1)
    with pytest.raises(CallError, match=r"is not a plain file name ending in \.safetensors"):
        write_shard(tmp_path, name, spec=make_spec(), split="train", codes=samples.codes, labels=None, keys=["a"])


def test_bytes_of_a_narrower_code_are_checked_too(tmp_path):
    samples = draw_samples(np.random.default_rng(0), 3)
    with pytest.raises(CallError, match=r"expected 1 to 63"):
        write_shard(
            tmp_path,
            "a.safetensors",
            spec=make_spec(bits=6),
            split="train",
            codes=samples.codes,
            labels=None,
            keys=samples.keys,
        )


def test_provenance_round_trip(tmp_path):
    assert load_provenance(tmp_path) is None
    write_provenance(tmp_path, {"versions": {"torch": "2"}, "flip_rate": 1e-5})
    assert load_provenance(tmp_path) == {"versions": {"torch": "2"}, "flip_rate": 1e-5}
