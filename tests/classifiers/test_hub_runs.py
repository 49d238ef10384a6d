"""Runs to and from the Hub, which is a server of the test."""

import shutil

import numpy as np
import pytest

import classifiers
from tests.support import fake_hub
from tests.support.tiny_datasets import make_spec, random_split
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError, DamagedError, JobError

REPO = "someone/stripes"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with fake_hub.running(monkeypatch) as hub:
        yield hub


@pytest.fixture
def run(write, tmp_path):
    spec = make_spec(latent_channels=3, stride=2, companding="none")
    splits = {"train": random_split(spec, 16, 16), "validation": random_split(spec, 8, 16, seed=1)}
    data = write("set", spec, splits, class_names=("c_t|<b>", "dog"))
    config = classifiers.TrainConfig(epochs=1, batch_size=8)
    classifiers.train(
        lambda: classifiers.create_model("test_resnet", data["train"]),
        data["train"],
        data["validation"],
        config,
        tmp_path / "run",
    )
    return tmp_path / "run"


def logits_of(model, tmp_path):
    return classifiers.predict(model, open_latents(tmp_path / "set", "validation")).logits


def test_pushed_and_loaded(hub, run, tmp_path):
    address = classifiers.push_run(run, REPO, private=True)
    assert address.endswith(f"/{REPO}/commit/{fake_hub.COMMIT}")
    assert hub.kinds == {REPO: "model"}
    assert hub.private == {REPO: True}
    assert len(hub.commits) == 1
    files = {".gitattributes", "config.json", "record.json", "model.safetensors", "classes.csv", "README.md"}
    assert set(hub.repositories[REPO]) == files
    expected = logits_of(classifiers.from_pretrained(run), tmp_path)
    for name in (REPO, f"hub:{REPO}"):
        np.testing.assert_array_equal(logits_of(classifiers.from_pretrained(name), tmp_path), expected)


def test_the_codec_goes_with_the_run(hub, run, tmp_path):
    (run / "codec").mkdir()
    for name in ("config.json", "model.safetensors"):
        (run / "codec" / name).write_bytes(b"codec")
    classifiers.push_run(run, REPO)
    assert hub.repositories[REPO]["codec/model.safetensors"] == b"codec"
    from classifiers.hub.pull_run import run_folder

    folder = run_folder(f"hub:{REPO}")
    assert (folder / "codec" / "config.json").read_bytes() == b"codec"
    shutil.rmtree(run / "codec")
    classifiers.push_run(run, REPO)
    assert "codec/config.json" not in hub.repositories[REPO]


def test_the_card(hub, run):
    classifiers.push_run(run, REPO)
    card = hub.repositories[REPO]["README.md"].decode()
    assert card.startswith("---\nlibrary_name: walloc-cdl\npipeline_tag: image-classification\n")
    assert "# stripes" in card
    assert "768 bytes an image" in card
    assert r"2: c_t\|\<b\>, dog" in card
    assert "| accuracy, validation data | " in card
    assert f'classifiers.from_pretrained("{REPO}")' in card
    (run / "README.md").write_text("mine")
    classifiers.push_run(run, REPO)
    assert hub.repositories[REPO]["README.md"] == b"mine"
    (run / "README.md").unlink()
    classifiers.push_run(run, REPO)
    assert hub.repositories[REPO]["README.md"] == b"mine"


def test_a_branch(hub, run, tmp_path):
    classifiers.push_run(run, REPO, revision="v2")
    assert hub.branches == ["v2"]
    assert hub.commits[0][0] == "v2"
    assert classifiers.from_pretrained(REPO, revision="v2").config.name == "test_resnet"


def test_wrong_calls(hub, run, tmp_path):
    with pytest.raises(CallError, match=r"'stripes' is no repository's name; expected OWNER/NAME"):
        classifiers.push_run(run, "stripes")
    with pytest.raises(CallError, match="is not a run"):
        classifiers.push_run(tmp_path / "set", REPO)
    with pytest.raises(CallError, match="the Hub has no repository someone/nothing"):
        classifiers.from_pretrained("hub:someone/nothing")
    with pytest.raises(CallError, match=r"'hub:a' is no run; expected a folder, or hub:OWNER/NAME"):
        classifiers.from_pretrained("hub:a")
    with pytest.raises(CallError, match="is not a run"):
        classifiers.from_pretrained(tmp_path / "nothing")
    hub.repositories[REPO] = {".gitattributes": b"", "thesis.tex": b"x"}
    with pytest.raises(CallError, match=r"holds other files \(thesis.tex\)"):
        classifiers.push_run(run, REPO)
    with pytest.raises(CallError, match="is not a run that `cdl model push` wrote"):
        classifiers.from_pretrained(REPO)
    hub.repositories.pop(REPO)
    (run / "record.json").unlink()
    with pytest.raises(CallError, match="is not finished"):
        classifiers.push_run(run, REPO)
    assert not hub.commits


def test_altered_weights_are_neither_pushed_nor_loaded(hub, run):
    classifiers.push_run(run, REPO)
    hub.repositories[REPO]["model.safetensors"] = hub.repositories[REPO]["model.safetensors"][:-4] + b"1234"
    with pytest.raises(DamagedError, match="SHA-256"):
        classifiers.from_pretrained(REPO)
    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"1234")
    with pytest.raises(DamagedError, match="SHA-256"):
        classifiers.push_run(run, REPO)
    assert len(hub.commits) == 1


def test_links_are_not_pushed(hub, run, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (run / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(CallError, match="link"):
        classifiers.push_run(run, REPO)
    assert not hub.commits


def test_a_hub_that_is_away(hub, run, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(JobError, match="the Hub cannot be reached"):
        classifiers.push_run(run, REPO)
