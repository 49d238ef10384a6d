"""Uploads and downloads data sets with huggingface_hub itself, against a server with the Hub's endpoints."""

import sys

import pytest
import yaml

from datasets_prep.hub import dataset_card, pull, push
from tests.support import fake_hub
from tests.support.any_samples import FIXED, PACKED, RAGGED
from tests.support.any_sets import write_any_set
from tests.support.small_sets import make_spec, write_small_set
from walloc_cdl.errors import CallError, DamagedError, JobError
from walloc_cdl.latents import LabelSpec, SampleLayout, load_manifest, verify, write_manifest, write_provenance

REPO = "someone/flowers"


@pytest.fixture
def hub(monkeypatch):
    with fake_hub.running(monkeypatch) as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    write_small_set(
        folder, {"train": [90, 80], "test": [3]}, files={"codec/config.json": b"{}", "ledger.parquet": b"P"}
    )
    write_provenance(folder, {"created": "today"})
    write_manifest(folder, load_manifest(folder))  # and the provenance's copy
    return folder


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_no_file_behind_a_link_is_uploaded(hub, folder, tmp_path):
    (tmp_path / "secret").write_text("precious")
    (folder / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(CallError, match=r"set/README\.md is a link to "):
        push(folder, REPO)
    assert not hub.repositories


def test_pulled_files_equal_pushed_files(hub, folder, tmp_path):
    calls = []
    address = push(folder, REPO, private=True, on_file=lambda *call: calls.append(call))
    assert address.endswith(f"/datasets/{REPO}/commit/{fake_hub.COMMIT}")
    assert calls[-1] == (5, 5, sum(entry.num_bytes for entry in listed(folder).values()))
    assert hub.private == {REPO: True}
    assert [revision for revision, _ in hub.commits] == [
        "main"
    ]  # a single commit, so that no reader sees an incomplete data set
    assert set(hub.repositories[REPO]) == {*content(folder), "README.md", ".gitattributes"}
    calls.clear()
    manifest = pull(REPO, tmp_path / "back", on_file=lambda *call: calls.append(call))
    assert manifest.to_json() == load_manifest(folder).to_json()
    assert calls[-1][:2] == (5, 5)
    assert content(tmp_path / "back") == content(folder)
    assert verify(tmp_path / "back", full=True).problems == []
    requests = hub.requests.total()
    pull(REPO, tmp_path / "back")
    assert hub.requests.total() == requests + 1  # the manifest


def listed(folder):
    manifest = load_manifest(folder)
    return {entry.name: entry for entry in manifest.shards} | manifest.files


def test_pushing_again_uploads_only_changes_and_removes_stale_files(hub, folder, tmp_path):
    push(folder, REPO)
    uploads = hub.requests["upload"]
    assert uploads >= 2  # the two shards that are large
    push(folder, REPO)
    assert hub.requests["upload"] == uploads
    other = tmp_path / "other"
    other.mkdir()
    write_small_set(other, {"train": [90]})
    hub.repositories[REPO]["README.md"] = b"written by its owner"
    push(other, REPO, revision="smaller")
    assert hub.branches == ["smaller"]
    assert set(hub.repositories[REPO]) == {*content(other), "README.md", ".gitattributes"}
    assert hub.repositories[REPO]["README.md"] == b"written by its owner"


def test_an_interrupted_push_is_resumed(hub, folder, tmp_path):
    hub.fail_uploads = 1
    with pytest.raises(CallError, match=r"the Hub refuses access to someone/flowers \(403\); log in with `hf auth"):
        push(folder, REPO)
    assert hub.commits == []
    push(folder, REPO)
    pull(REPO, tmp_path / "back")


def test_an_interrupted_pull_is_resumed(hub, folder, tmp_path, monkeypatch):
    push(folder, REPO)

    def stop(done, *_):
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["datasets_prep.hub.pull"], "NUM_THREADS", 1)
    with pytest.raises(KeyboardInterrupt):
        pull(REPO, tmp_path / "back", on_file=stop)
    assert not (tmp_path / "back" / "manifest.json").exists()
    fetched = {name for name in listed(folder) if (tmp_path / "back" / name).exists()}
    assert 2 <= len(fetched) < 5
    pull(REPO, tmp_path / "back")
    assert all(hub.requests[name] == 1 for name in listed(folder))
    assert content(tmp_path / "back") == content(folder)


def test_files_that_differ_from_the_manifest_are_refused(hub, folder, tmp_path):
    push(folder, REPO)
    files = hub.repositories[REPO]
    whole = files["train-00000.safetensors"]
    files["train-00000.safetensors"] = whole[:-1] + b"x"
    with pytest.raises(DamagedError, match=r"someone/flowers, train-00000.safetensors: SHA-256 is \w+…, expected"):
        pull(REPO, tmp_path / "back")
    files["train-00000.safetensors"] = whole[:-1]
    with pytest.raises(DamagedError, match=r"train-00000.safetensors: \d+ bytes, expected \d+; ask its owner"):
        pull(REPO, tmp_path / "back")
    del files["train-00000.safetensors"]
    with pytest.raises(DamagedError, match=r"train-00000.safetensors: missing, though the manifest lists it"):
        pull(REPO, tmp_path / "back")
    assert not (tmp_path / "back" / "manifest.json").exists()
    files["train-00000.safetensors"] = whole
    pull(REPO, tmp_path / "back")
    assert content(tmp_path / "back") == content(folder)


def test_a_damaged_data_set_is_not_pushed(hub, folder):
    path = folder / "train-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedError, match=r"train-00001.safetensors: SHA-256 is \w+…, expected \w+…; restore"):
        push(folder, REPO)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedError, match=r"train-00001.safetensors: \d+ bytes, expected \d+; restore"):
        push(folder, REPO)
    assert hub.commits == []


def test_invalid_calls_are_refused_in_one_line(hub, folder, tmp_path, monkeypatch):
    with pytest.raises(CallError, match="the Hub has no data set no/body that you may see; check its name"):
        pull("no/body", tmp_path / "back")
    for name in ("flowers", "a/b/c", "a/b c"):
        with pytest.raises(CallError, match="is no repository's name; expected OWNER/NAME"):
            pull(name, tmp_path / "back")
        with pytest.raises(CallError, match="is no repository's name; expected OWNER/NAME"):
            push(folder, name)
    hub.repositories[REPO] = {"thesis.tex": b"x"}
    with pytest.raises(CallError, match=r"someone/flowers holds other files \(thesis.tex\); give a new repository"):
        push(folder, REPO)
    with pytest.raises(CallError, match=r"someone/flowers is not a data set of latents: it has no manifest.json"):
        pull(REPO, tmp_path / "back")
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with pytest.raises(CallError, match=r"refuses access to someone/new \(401\); log in with `hf auth login`"):
        push(folder, "someone/new")


def test_foreign_folders_and_other_data_sets_are_not_changed(hub, folder, tmp_path):
    push(folder, REPO)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("Chapter 1")
    with pytest.raises(CallError, match=r"holds other files \(chapter.txt\); give a new or empty folder"):
        pull(REPO, tmp_path / "thesis")
    (tmp_path / "other").mkdir()
    write_small_set(tmp_path / "other", {"train": [2]})
    with pytest.raises(CallError, match="holds another data set, or another version of it; give a new folder"):
        pull(REPO, tmp_path / "other")


def test_without_a_network_one_line_says_what_to_do(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_for_the_test")
    for call in (lambda: push(folder, REPO), lambda: pull(REPO, tmp_path / "back")):
        with pytest.raises(JobError, match=r"the Hub cannot be reached for someone/flowers \(Connect\w+: .*\); check"):
            call()
    assert not (tmp_path / "back").exists()


def test_pulling_from_a_url(folder, tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/pulled/set", recursive=True)
    pull("memory://pulled/set", tmp_path / "back")
    assert content(tmp_path / "back") == content(folder)
    memory.rm("/pulled/set/ledger.parquet")
    with pytest.raises(DamagedError, match=r"memory://pulled/set/ledger.parquet: missing, though the manifest lists"):
        pull("memory://pulled/set", tmp_path / "again")
    with pytest.raises(CallError, match="--revision v1 is for the Hub; memory://pulled/set has none"):
        pull("memory://pulled/set", tmp_path / "again", revision="v1")


def test_the_card_and_its_parsed_header(folder):
    manifest = load_manifest(folder)
    text = dataset_card(manifest, REPO).decode()
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["task_categories"] == ["image-classification"]
    assert header["size_categories"] == ["n<1K"]
    assert header["pretty_name"] == "flowers"
    assert "train (170), test (3)" in text
    assert 'cdl.open_latents("hf://datasets/someone/flowers", split="train")' in text
    assert manifest.spec.codec_id[:16] in text


@pytest.mark.parametrize(
    ("labels", "row", "batches"),
    [
        (LabelSpec("class", 2), "| classes | name 0, name 1 |", "int64 (B,), -1 where unknown"),
        (LabelSpec("class"), "| classes | none |", "int64 (B,), -1 where unknown"),
        (LabelSpec("multilabel", 2), "| classes, several a sample | name 0, name 1 |", "uint8 (B, 2), 1 for each"),
        (LabelSpec("regression", 2), "| targets | name 0, name 1 |", "float32 (B, 2), NaN where unknown"),
        (LabelSpec("regression", 1), "| targets | name 0 |", "float32 (B,), NaN where unknown"),
        (LabelSpec(), "| classes | none |", "int64 (B,), all -1: there are no labels"),
    ],
)
@pytest.mark.parametrize("ragged", [False, True])
def test_the_card_describes_batches(tmp_path, labels, row, batches, ragged):
    spec = make_spec()
    shape = (spec.latent_channels, *((None, None) if ragged else (16, 16)))
    write_any_set(tmp_path / "set", SampleLayout(spec, shape, labels), {"train": (4,)})
    text = dataset_card(load_manifest(tmp_path / "set"), REPO).decode()
    assert row in text.splitlines()
    assert f"uint8 (B, K, h, w) and {batches}" in text
    assert ("batch_size=256, crop=(16, 16))  # latents, which every" in text) == ragged
    assert ("batch_size=256)\n" in text) != ragged


@pytest.mark.parametrize("ragged", [False, True])
def test_the_card_of_packed_samples_reads_codes(tmp_path, ragged):
    shape = RAGGED["image"] if ragged else FIXED["image"]
    write_any_set(tmp_path / "set", SampleLayout(PACKED["image"], shape), {"train": (4,)})
    text = dataset_card(load_manifest(tmp_path / "set"), REPO).decode()
    row = "| latents | 2 × any × any codes a sample, in 5 bit planes |"
    assert (
        row if ragged else "| latents | 2 × 2 × 3 codes a sample, in 5 bit planes of 5 bytes |"
    ) in text.splitlines()
    assert ("batch_size=256, unpack=True)\n" in text) != ragged
    assert "`dataset.codec.decode(codes)` makes images of codes." in text


def test_a_card_is_not_a_stray_file(folder):
    (folder / "README.md").write_text("# Flowers")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs")
    assert verify(folder).problems == []
    (folder / "notes.md").write_text("x")
    (folder / "codec" / "README.md").write_text("x")
    assert len(verify(folder).problems) == 2


def test_a_card_in_the_folder_is_pushed(hub, folder):
    (folder / "README.md").write_text("# Flowers of my garden")
    push(folder, REPO)
    assert hub.repositories[REPO]["README.md"] == b"# Flowers of my garden"
