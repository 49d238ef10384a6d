import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.small_sets import write_small_set
from walloc_cdl.canonical import sha256_file
from walloc_cdl.errors import CallError
from walloc_cdl.latents import DamagedSample, load_manifest, verify, write_provenance
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, parse_json_with_digest

SHARD = "train-00000.safetensors"
LAST_CODE = -40  # 39 bytes of keys follow


@pytest.fixture
def folder(tmp_path):
    write_provenance(tmp_path, {"when": "today"})
    write_small_set(tmp_path, {"train": [3, 2], "test": [2]}, files={"codec/config.json": b"{}"})
    return tmp_path


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def forge_manifest(folder, change):
    """Change the manifest's fields and give it a valid digest."""
    path = folder / "manifest.json"
    fields = parse_json_with_digest(path.read_bytes(), origin="m")
    change(fields)
    path.write_bytes(encode_json_with_digest(fields))
    (folder / "copy/manifest.json").write_bytes(encode_json_with_digest(fields))


def forge_sha256(folder, name):
    """Replace the SHA-256 in the manifest with that of the changed file."""

    def change(fields):
        entry = next(entry for entry in fields["shards"] if entry["name"] == name)
        entry["sha256"] = sha256_file(folder / name)

    forge_manifest(folder, change)


@pytest.mark.parametrize("full", [False, True])
def test_an_undamaged_data_set_has_no_problems(folder, full):
    (folder / "_work").mkdir()
    (folder / "_work" / "plan.json").write_text("{}")
    report = verify(folder, full=full)
    assert report.problems == []
    assert report.num_files == 4
    sizes = [path.stat().st_size for path in [*folder.glob("*.safetensors"), folder / "codec/config.json"]]
    assert report.num_bytes == sum(sizes)


def test_unlabeled_data_are_verified(tmp_path):
    write_small_set(tmp_path, {"train": [3]}, labeled=False)
    assert verify(tmp_path, full=True).problems == []


def test_progress_counts_every_file(folder):
    steps = []
    verify(folder, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def only_problem(folder, **options):
    (problem,) = verify(folder, **options).problems
    assert "\n" not in problem
    return problem


def test_truncated_shard(folder):
    size = (folder / SHARD).stat().st_size
    (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:-1])
    for full in (False, True):
        assert (
            f"{SHARD}: {size - 1} bytes, expected {size}; `cdl repair {folder} --source SOURCE` encodes it again"
            in only_problem(folder, full=full)
        )


def test_missing_files(folder):
    (folder / SHARD).unlink()
    assert f"{SHARD}: missing, though the manifest lists it" in only_problem(folder, full=True)


def test_a_changed_code_is_detected_by_the_full_check_only(folder):
    flip(folder / SHARD, LAST_CODE)
    assert verify(folder).problems == []
    report = verify(folder, full=True)
    of_file, of_sample = report.problems
    assert f"{SHARD}: SHA-256 is " in of_file
    assert f"{SHARD}: 1 of 3 samples fail their CRC32C (row 2: 'ééphoto 2.jpg')" in of_sample
    assert report.damaged_files == [SHARD]
    assert report.damaged_samples == [DamagedSample(SHARD, 2, "ééphoto 2.jpg")]


def test_a_changed_key_is_detected_by_the_fast_check(folder):
    flip(folder / SHARD, -1)
    assert f"{SHARD}: labels, keys or checksums differ from the manifest's" in only_problem(folder)
    _, of_sample = verify(folder, full=True).problems
    assert "fail their CRC32C (row 2: 'ééphoto 2.jpf')" in of_sample  # there is no ledger


def parquet(twice=(), **columns):
    buffer, names = pa.BufferOutputStream(), [*columns, *twice]
    pq.write_table(pa.table([columns[name] for name in names], names), buffer)
    return buffer.getvalue().to_pybytes()


ROWS = {"shard": [SHARD, SHARD], "row": [0, 2]}
NO_TEXT = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xff"))
ZEROED = bytearray(parquet(key=["a", "b"], **ROWS))
ZEROED[4:40] = bytes(36)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (parquet(key=["a", "b"], **ROWS), "b"),
        (b"not a Parquet file", "ééphoto 2.jpg"),
        (bytes(ZEROED), "ééphoto 2.jpg"),
        (parquet(key=["a", "b"], shard=[1, 2], row=[0, 2]), "ééphoto 2.jpg"),
        (parquet(key=[b"a", b"b"], **ROWS), "ééphoto 2.jpg"),
        (parquet(key=["a", "b"], shard=ROWS["shard"], row=["0", "2"]), "ééphoto 2.jpg"),
        (parquet(key=NO_TEXT, **ROWS), "ééphoto 2.jpg"),
        (parquet(row=[0, 2]), "ééphoto 2.jpg"),
        (parquet(key=["a", "b"], **ROWS, twice=["key"]), "ééphoto 2.jpg"),
    ],
    ids=["ledger", "other file", "zeroed", "numbers", "bytes", "text", "no text", "columns", "twice"],
)
def test_keys_of_damaged_samples_for_any_content_of_the_ledger(tmp_path, content, key):
    write_small_set(tmp_path, {"train": [3]}, files={"ledger.parquet": content})
    flip(tmp_path / SHARD, LAST_CODE)
    assert verify(tmp_path, full=True).damaged_samples == [DamagedSample(SHARD, 2, key)]


def test_damaged_files_and_copies(folder):
    flip(folder / "codec/config.json", 0)
    assert "codec/config.json: SHA-256 is " in only_problem(folder, full=True)
    flip(folder / "codec/config.json", 0)
    for name in ("codec/config.json", "provenance.json", "manifest.json"):
        flip(folder / "copy" / name, 0)
        assert verify(folder).problems == []
        assert only_problem(folder, full=True).startswith(f"{folder / 'copy' / name}: ")
        (folder / "copy" / name).unlink()
        assert f"{folder / 'copy' / name}: missing" in only_problem(folder)
        (folder / "copy" / name).write_bytes((folder / name).read_bytes())


def test_a_damaged_header_is_detected_by_the_fast_check(folder):
    flip(folder / SHARD, 20)
    assert f"shard {folder / SHARD}: " in only_problem(folder)


def test_checksums_name_the_damaged_sample(folder):
    flip(folder / SHARD, LAST_CODE - 12)  # the 12 codes of row 2 follow
    forge_sha256(folder, SHARD)
    assert f"{SHARD}: 1 of 3 samples fail their CRC32C (row 1: 'éphoto 1.jpg')" in only_problem(folder, full=True)


def test_bytes_out_of_range(folder):
    data = bytearray((folder / SHARD).read_bytes())
    data[LAST_CODE] = 0
    (folder / SHARD).write_bytes(data)
    forge_sha256(folder, SHARD)
    assert any("1 code bytes outside 1 to 255" in problem for problem in verify(folder, full=True).problems)


def test_forged_histograms_and_counts(folder):
    def change(fields):
        row = fields["histograms"]["train"][1]
        used = next(byte for byte in range(256) if row[byte])
        row[used] -= 1
        row[(used + 1) % 255 + 1] += 1
        fields["splits"]["test"]["class_counts"] = [0, 0, 0]

    forge_manifest(folder, change)
    problems = verify(folder, full=True).problems
    assert any("split 'train': histogram of channels [1] differs" in problem for problem in problems)
    assert any("split 'test': class counts differ" in problem for problem in problems)
    assert verify(folder).problems == []


def test_labels_without_a_class(folder):
    def change(fields):
        fields["class_names"] = ["coat"]
        for summary in fields["splits"].values():
            summary["class_counts"] = None

    forge_manifest(folder, change)
    assert any("labels outside -1 to 0" in problem for problem in verify(folder, full=True).problems)


def test_files_that_nothing_lists(folder):
    (folder / "codec" / "notes.txt").write_text("x")
    assert only_problem(folder).endswith("codec/notes.txt: not listed in the manifest; move it elsewhere")


def test_altered_manifest_and_provenance(folder):
    fields = json.loads((folder / "provenance.json").read_text())
    (folder / "provenance.json").write_text(json.dumps({**fields, "when": "tomorrow"}))
    assert "provenance.json: digest is " in only_problem(folder)
    fields = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**fields, "source": {}}))
    assert "manifest.json: digest is " in only_problem(folder)


def test_a_folder_that_is_not_a_data_set_is_refused(tmp_path):
    with pytest.raises(CallError, match="is not a data set"):
        verify(tmp_path)


def test_an_empty_split_has_no_problems(tmp_path):
    write_small_set(tmp_path, {"train": [2], "test": [0]})
    assert verify(tmp_path, full=True).problems == []
    assert not load_manifest(tmp_path).histograms["test"].any()
