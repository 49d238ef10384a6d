"""An open data set whose folder changes: its samples, or an error, but never those of another data set."""

import pickle
import shutil

import numpy as np
import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from tests.support.pictures import picture
from tests.support.small_sets import write_small_set
from walloc_cdl import load_codec
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.errors import DamagedError, JobError
from walloc_cdl.latents import MANIFEST_NAME

SIZES = [4, 4, 4]
CHANGED = r"has changed since it was opened: train-0000[012]\.safetensors is another one; open it again"


@pytest.fixture
def opened(tmp_path):
    content = write_small_set(tmp_path, {"train": SIZES})["train"]
    dataset = open_latents(tmp_path)
    np.testing.assert_array_equal(dataset.gather(range(4)).codes, content.codes[:4])  # the first shard only
    return dataset, content, tmp_path


def replace(folder, **changes):
    """Write another data set in place, of the same sizes in bytes."""
    (folder / MANIFEST_NAME).unlink()
    return write_small_set(folder, {"train": SIZES}, **changes)["train"]


def test_rows_of_another_data_set_are_not_read(opened):
    dataset, content, folder = opened
    again = pickle.loads(pickle.dumps(dataset))
    new = replace(folder, seed=5)
    np.testing.assert_array_equal(dataset.gather(range(4)).codes, content.codes[:4])  # still mapped
    reads = (
        lambda each: each.gather([4]),
        lambda each: each[11],
        lambda each: each.labels,
        lambda each: list(LatentLoader(each, 4)),
        lambda each: each[5:].keys([0]),
    )
    for each in (dataset, again):
        for read in reads:
            with pytest.raises(JobError, match=CHANGED):
                read(each)
    with pytest.raises(JobError, match=r"train-00000\.safetensors is another one"):
        again.gather([0])
    np.testing.assert_array_equal(open_latents(folder).gather(range(12)).codes, new.codes)


def test_a_folder_in_the_middle_of_a_job_is_not_read(opened):
    dataset, content, folder = opened
    manifest = (folder / MANIFEST_NAME).read_bytes()
    (folder / MANIFEST_NAME).unlink()
    with pytest.raises(JobError, match=r"has lost its manifest\.json since it was opened, so it is being prepared or"):
        dataset.gather([4])
    (folder / MANIFEST_NAME).write_bytes(manifest)
    np.testing.assert_array_equal(dataset.gather(range(12)).codes, content.codes)


def test_the_same_content_is_read_on(opened, tmp_path):
    """Also after an extension, which keeps the shards."""
    dataset, content, folder = opened
    replace(folder)
    np.testing.assert_array_equal(dataset.gather(range(8)).codes, content.codes[:8])
    shutil.copy(folder / MANIFEST_NAME, folder / "copied")
    (folder / "copied").replace(folder / MANIFEST_NAME)
    np.testing.assert_array_equal(dataset.gather(range(12)).codes, content.codes)


def test_a_restarted_job(tmp_path):
    for name, first in (("a", 0), ("b", 50)):
        for number in range(6):
            path = tmp_path / name / "train" / f"{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(first + number, 32).save(path)
    codec = load_codec("resize-rgb-16x")
    options = {"size": 32, "workers": 0}
    prepare(open_source(str(tmp_path / "a")), codec, tmp_path / "out", PrepareConfig(**options))
    dataset = open_latents(tmp_path / "out")
    prepare(open_source(str(tmp_path / "b")), codec, tmp_path / "out", PrepareConfig(**options, restart=True))
    with pytest.raises(JobError, match="has changed since it was opened: train-00000"):
        dataset.gather([0])


def test_the_synthesis_of_another_data_set_is_not_used(tmp_path):
    write_small_set(tmp_path, {"train": [2]}, files={"codec/synthesis.safetensors": b"old"})
    dataset = open_latents(tmp_path)
    (tmp_path / "codec" / "synthesis.safetensors").write_bytes(b"new")
    with pytest.raises(DamagedError, match=r"synthesis\.safetensors: SHA-256 is [0-9a-f]{12}…, expected"):
        _ = dataset.synthesis_bank
