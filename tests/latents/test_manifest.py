import contextlib
import copy
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.small_sets import write_small_set
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.latents import load_manifest, manifest_from_json, write_manifest
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, parse_json_with_digest

in_one_folder = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    write_small_set(folder, {"train": [3, 2], "test": [2]}, files={"codec/config.json": b"{}"})
    return folder


@pytest.fixture(scope="module")
def fields(folder):
    return parse_json_with_digest((folder / "manifest.json").read_bytes(), origin="manifest")


def test_round_trip(folder, tmp_path):
    manifest = load_manifest(folder)
    (tmp_path / "codec").mkdir()
    (tmp_path / "codec/config.json").write_bytes(b"{}")
    write_manifest(tmp_path, manifest)
    assert (tmp_path / "manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()
    assert manifest.histograms["train"].dtype == np.int64
    assert [entry.name for entry in manifest.shards_of("test")] == ["test-00000.safetensors"]


def test_a_folder_without_manifest_is_not_a_data_set(tmp_path):
    with pytest.raises(CallError, match=r"is not a data set \(it has no manifest\.json\)") as error:
        load_manifest(tmp_path)
    assert error.value.exit_code == 2
    with pytest.raises(CallError, match=r"is not a data set \(it does not exist\); make one with `cdl prepare"):
        load_manifest(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(CallError, match=r"file is not a data set \(it is a file\); make one"):
        load_manifest(tmp_path / "file")


@in_one_folder
@given(data=st.data())
def test_every_changed_byte_is_detected_or_harmless(folder, tmp_path, data):
    good = (folder / "manifest.json").read_bytes()
    position = data.draw(st.integers(0, len(good) - 1))
    altered = good[:position] + bytes([data.draw(st.integers(0, 255))]) + good[position + 1 :]
    (tmp_path / "manifest.json").write_bytes(altered)
    try:
        manifest = load_manifest(tmp_path)
    except DamagedError:
        return
    assert manifest.to_json() == load_manifest(folder).to_json()


@pytest.mark.parametrize("kept", [0, 1, 500, -2])
def test_truncation_is_damage(folder, tmp_path, kept):
    (tmp_path / "manifest.json").write_bytes((folder / "manifest.json").read_bytes()[:kept])
    with pytest.raises(DamagedError, match=r"manifest\.json: not readable as JSON"):
        load_manifest(tmp_path)


def paths(value, path=()):
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(min(len(value), 3)):
            yield from paths(value[key], (*path, key))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@in_one_folder
@given(data=st.data(), value=json_values)
def test_forged_values_with_a_valid_digest_are_refused_or_harmless(fields, data, value):
    """A forged manifest with a valid digest raises no errors except `CdlError`s."""
    forged = copy.deepcopy(fields)
    path = data.draw(st.sampled_from([path for path in paths(fields) if path]))
    parent = forged
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    with contextlib.suppress(DamagedError, CallError):
        manifest_from_json(parse_json_with_digest(encode_json_with_digest(forged), origin="m"), origin="m")


def forge(fields, *path_and_value):
    *path, value = path_and_value
    forged = copy.deepcopy(fields)
    parent = forged
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return manifest_from_json(forged, origin="m")


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.safetensors", "a/b.safetensors", "a\\b.safetensors", "", ".", 3])
def test_shard_names_stay_inside_the_folder(fields, name):
    with pytest.raises(DamagedError, match=r"m, shards\[0\], name: found .* expected a plain relative file name"):
        forge(fields, "shards", 0, "name", name)


@pytest.mark.parametrize("name", ["/etc/passwd", "codec/../../a", "codec//a", "~/a", "c:/a"])
def test_file_names_stay_inside_the_folder(fields, name):
    with pytest.raises(DamagedError, match=r"m, files: found .* expected a plain relative file name"):
        forge(fields, "files", {name: fields["files"]["codec/config.json"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("shards", 1, "name", "train-00000.safetensors"), "file 'train-00000.safetensors' is listed twice"),
        (("shards", 0, "num_samples", 4), "split 'train': 6 samples in its shards, expected 5"),
        (("shards", 0, "num_samples", True), "num_samples: found True, expected an integer of at least 0"),
        (("shards", 0, "num_bytes", -1), "num_bytes: found -1, expected an integer of at least 0"),
        (("shards", 0, "sha256", "00"), "sha256: found '00', expected a SHA-256"),
        (("shards", 0, "split", "dev"), "belongs to split 'dev', which is not listed"),
        (("latent_shape", [2, 2]), r"latent shape of 2 sizes, image latents have \[K, h, w\]"),
        (("latent_shape", [3, 2, 3]), "latent shape has 3 channels, its spec 2"),
        (("histograms", "train", 0, 5, 99), "split 'train': histogram counts differ from 5 samples of 6 positions"),
        (("histograms", {}), r"histograms for \[\], expected \['test', 'train'\]"),
        (("splits", "train", "class_counts", [1]), "split 'train': 1 class counts for 3 class names"),
        (("splits", "train", "class_counts", [9, 9, 9]), "class counts add up to 27, more than 5 samples"),
        (("class_names", ["a", "a", "b"]), "a class name occurs twice"),
        (("spec", "bits", 17), "17 bits a latent value"),
        (("spec", "stride", "8"), "stride: found '8', expected an integer"),
        (("format", "other"), "format is 'other', expected 'walloc-cdl latents'"),
        (("surplus", 1), r"missing or unknown fields \['surplus'\]"),
    ],
)
def test_contradictions_are_named(fields, change, message):
    with pytest.raises(DamagedError, match=message):
        forge(fields, *change)


def test_another_format_version_is_not_damage(fields):
    with pytest.raises(CallError, match="format version 3, this program reads 2; update walloc-cdl"):
        forge(fields, "format_version", 3)
    with pytest.raises(CallError, match="format version 1, this program reads 2; prepare the data set again"):
        forge(fields, "format_version", 1)


def test_a_manifest_without_splits_is_refused(fields):
    with pytest.raises(DamagedError, match="m: no split, expected at least one"):
        manifest_from_json({**fields, "splits": {}, "shards": [], "histograms": {}}, origin="m")


def test_a_contradictory_manifest_is_not_written(folder, tmp_path):
    manifest = load_manifest(folder)
    manifest.shards.pop()
    with pytest.raises(CallError, match="manifest not written: split 'test': 0 samples in its shards, expected 2"):
        write_manifest(tmp_path, manifest)
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize(
    "text", ['{"a":NaN,"digest":""}', '{"a":1,"a":2,"digest":""}', "[" * 100_000, "[]", "3", "\xff"]
)
def test_json_is_read_strictly(text):
    with pytest.raises(DamagedError, match=r"m: (not readable as JSON|has no digest)"):
        parse_json_with_digest(text.encode("latin-1"), origin="m")


@given(json_values)
def test_json_with_digest_is_json_and_round_trips(value):
    data = encode_json_with_digest({"value": value})
    assert json.loads(data)["value"] == value
    assert parse_json_with_digest(data, origin="m") == {"value": value}
