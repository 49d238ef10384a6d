"""Data sets are exported to archives and restored to the same bytes, even after interruptions, or refused."""

from pathlib import Path

import numpy as np
import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.archives import description
from datasets_prep.archives import export as exporting
from datasets_prep.archives import restore as importing
from datasets_prep.archives.export import export_archives
from datasets_prep.archives.restore import import_archives
from datasets_prep.folders import derived_folder
from tests.support.any_samples import FIXED, PACKED, write_any_set
from tests.support.small_sets import make_spec, write_small_set
from tests.support.trees import all_files
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.codec import load_codec
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.files import write_atomic
from walloc_cdl.latents import FileEntry, LabelSpec, SampleLayout, load_manifest, verify
from walloc_cdl.latents.archive import CONTAINERS, archive_from_bytes, archive_to_bytes

FILES = {"codec/config.json": b"{}", "ledger.parquet": b"ledger"}


@pytest.fixture
def small_set(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    write_small_set(folder, {"train": (3, 2), "test": (2,)}, files=FILES)
    return folder


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("labeled", [True, False])
def test_the_same_bytes_are_restored(container, labeled, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    write_small_set(folder, {"train": (3, 0, 2), "empty": (0,)}, labeled=labeled, files=FILES, shape=(5, 3, 4))
    seen = []
    export_archives(folder, tmp_path / "archives", container=container, on_samples=lambda *state: seen.append(state))
    import_archives(tmp_path / "archives", tmp_path / "back")
    assert seen[-1] == (5, 5)
    assert all_files(tmp_path / "back") == all_files(folder)
    assert verify(tmp_path / "back", full=True).problems == []


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("kind", ["image", "audio"])
def test_packed_samples_are_archived_as_codes(container, kind, tmp_path):
    """A byte each, and restored to the same rows."""
    folder = tmp_path / "set"
    folder.mkdir()
    layout = SampleLayout(PACKED[kind], FIXED[kind], LabelSpec("class", 3))
    content = write_any_set(folder, layout, {"train": (3, 0, 2)})
    export_archives(folder, tmp_path / "archives", container=container)
    (path,) = (tmp_path / "archives/train").rglob("0000001-*")
    archive = archive_from_bytes(path.read_bytes())
    assert archive.info.spec == layout.spec
    np.testing.assert_array_equal(archive.codes, content["train"].codes[1])
    import_archives(tmp_path / "archives", tmp_path / "back")
    assert all_files(tmp_path / "back") == all_files(folder)
    assert verify(tmp_path / "back", full=True).problems == []


def test_restoring_again_does_not_change_an_extension(small_set, tmp_path):
    export_archives(small_set, tmp_path / "archives")
    import_archives(tmp_path / "archives", tmp_path / "back")
    (tmp_path / "back/_work/extension/_work").mkdir(parents=True)
    (tmp_path / "back/_work/extension/_work/plan.json").write_text("{}")
    before = all_files(tmp_path / "back")
    import_archives(tmp_path / "archives", tmp_path / "back")
    assert all_files(tmp_path / "back") == before
    write_atomic(tmp_path / "back/_work/state.json", b"{}")  # killed at the end, and extended since
    import_archives(tmp_path / "archives", tmp_path / "back")
    (tmp_path / "back/_work/locks/job.lock").unlink()
    assert all_files(tmp_path / "back") == before


def test_a_prepared_data_set_with_its_codec_ledger_and_provenance(make_folder, tmp_path):
    source = open_source(str(make_folder()))
    prepare(source, load_codec("rgb-16x"), tmp_path / "set", PrepareConfig(size=32, shard_samples=5, workers=0))
    export_archives(tmp_path / "set", tmp_path / "archives")
    import_archives(tmp_path / "archives", tmp_path / "back")
    assert all_files(tmp_path / "back") == all_files(tmp_path / "set")
    assert verify(tmp_path / "back", full=True).problems == []
    names = sorted(all_files(tmp_path / "archives"))
    assert names[:6] == [
        "archives.json",
        "codec/config.json",
        "codec/model.safetensors",
        "codec/operators.safetensors",
        "codec/synthesis.safetensors",
        "index/test-00000.json",
    ]
    suffix = exporting.default_container("image").suffixes[0]
    assert f"train/dog/0000006-00{suffix}" in names
    archive = archive_from_bytes((tmp_path / "archives" / f"train/dog/0000006-00{suffix}").read_bytes())
    assert archive.info.signal_shape == (3, 32, 32)


def test_folders_and_names_are_plain(small_set, tmp_path):
    export_archives(small_set, tmp_path / "archives", container="png")
    names = [name for name in all_files(tmp_path / "archives") if name.startswith("train/")]
    assert all(name.isascii() and " " not in name for name in names)
    assert {name.split("/")[1] for name in names} <= {"coat", "dress", "hat", "_unlabeled"}
    assert {name.rpartition("/")[2][:7] for name in names} == {f"{number:07d}" for number in range(5)}


class StopError(Exception):
    """Interrupts the job."""


@pytest.mark.parametrize("module", [exporting, importing], ids=["export", "import"])
def test_interrupted_before_any_write(module, small_set, tmp_path, monkeypatch):
    """Stops the job at the first, second, … file that is written, and resumes it each time until it finishes."""
    if module is importing:
        export_archives(small_set, tmp_path / "archives", container="png")
        job, arguments, last = import_archives, (tmp_path / "archives", tmp_path / "out"), "manifest.json"
    else:
        job, arguments, last = (
            export_archives,
            (
                small_set,
                tmp_path / "out",
            ),
            "archives.json",
        )
    options = {} if module is importing else {"container": "png"}
    left = 0

    def interrupted(write):
        def call(*arguments, **options):
            nonlocal left
            if left == 0:
                raise StopError
            left -= 1
            return write(*arguments, **options)

        return call

    for target, name in ((derived_folder, "write_atomic"), (module, "write_atomic"), (module, "write_manifest")):
        if hasattr(target, name):
            monkeypatch.setattr(target, name, interrupted(getattr(target, name)))
    if module is importing:
        monkeypatch.setattr(module, "write_shard", interrupted(module.write_shard))
    for allowed in range(1, 60):
        left = allowed if allowed > 1 else 0
        try:
            job(*arguments, **options)
            break
        except StopError:
            assert not (tmp_path / "out" / last).exists()
    assert allowed > 3
    left = 100
    if module is exporting:
        import_archives(tmp_path / "out", tmp_path / "back")
        assert all_files(tmp_path / "back") == all_files(small_set)
    else:
        assert all_files(tmp_path / "out") == all_files(small_set)
    assert not (tmp_path / "out" / "_work").exists()


def test_the_same_call_again_does_nothing(small_set, tmp_path):
    export_archives(small_set, tmp_path / "archives", container="png")
    import_archives(tmp_path / "archives", tmp_path / "back")
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    export_archives(small_set, tmp_path / "archives", container="png")
    import_archives(tmp_path / "archives", tmp_path / "back")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times


def test_wrong_calls(small_set, tmp_path):
    with pytest.raises(CallError, match=r"archives is not a folder of archives \(it does not exist\); make one with"):
        import_archives(tmp_path / "archives", tmp_path / "back")
    export_archives(small_set, tmp_path / "archives", container="png")
    with pytest.raises(CallError, match="holds archives of another data set or container; give a new folder"):
        export_archives(small_set, tmp_path / "archives", container="webp")
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter.txt").write_text("1")
    for job, source in ((export_archives, small_set), (import_archives, tmp_path / "archives")):
        with pytest.raises(CallError, match=r"thesis holds other files \(chapter.txt\); give a new or empty folder"):
            job(source, foreign)
    other = tmp_path / "other"
    other.mkdir()
    write_small_set(other, {"train": (2,)}, seed=1)
    with pytest.raises(CallError, match="holds another data set than"):
        import_archives(tmp_path / "archives", other)
    unfinished = tmp_path / "unfinished"
    with pytest.raises(ZeroDivisionError):
        derived_folder.derive(unfinished, {"job": "export"}, lambda: None, lambda: 1 // 0)
    with pytest.raises(CallError, match="holds an unfinished job of another data set or form"):
        export_archives(small_set, unfinished)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_damage_is_detected_when_restoring(small_set, tmp_path):
    folder = tmp_path / "archives"
    export_archives(small_set, folder, container="png")
    original = all_files(folder)
    sample = next(name for name in original if name.startswith("train/"))
    for name in (sample, "archives.json", "index/train-00001.json", "ledger.parquet"):
        for change in (damage, Path.unlink):
            if name == "archives.json" and change is Path.unlink:
                continue  # that is not a folder of archives, a wrong call
            change(folder / name)
            with pytest.raises(DamagedError, match=f"{Path(name).name}.*; restore "):
                import_archives(folder, tmp_path / "back")
            assert not (tmp_path / "back" / "manifest.json").exists()
            (folder / name).write_bytes(original[name])
    other = archive_to_bytes(np.full((2, 2, 3), 9, np.uint8), make_spec(), signal_shape=(1, 16, 24), container="png")
    (folder / sample).write_bytes(other)
    with pytest.raises(DamagedError, match="as in the exported data set"):
        import_archives(folder, tmp_path / "new")
    (folder / sample).write_bytes(original[sample])
    for name in ("back", "new"):
        import_archives(folder, tmp_path / name)
        assert all_files(tmp_path / name) == all_files(small_set)
    assert load_manifest(tmp_path / "back").to_json() == load_manifest(small_set).to_json()


def test_a_damaged_shard_is_not_exported(small_set, tmp_path):
    shard = small_set / "train-00000.safetensors"
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(DamagedError, match="1 of 3 samples fail their CRC32C"):
        export_archives(small_set, tmp_path / "archives")


def test_paths_of_an_index_stay_inside_the_folder(small_set, tmp_path):
    folder = tmp_path / "archives"
    export_archives(small_set, folder, container="png")
    shard = "train-00000.safetensors"
    data = description.index_bytes(shard, [description.IndexRow("../../secret", 0, "a")])
    (folder / description.index_path(shard)).write_bytes(data)
    with pytest.raises(DamagedError, match="expected a plain relative file name inside the folder"):
        description.load_index(folder, shard, FileEntry(len(data), sha256_hex(data)))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_views": 2}, "of 2 views"),
        ({"latent_shape": (2, None, None)}, "of ragged geometry"),
        ({"labels": LabelSpec("multilabel", 2), "num_views": 2}, "of 2 views and with labels of kind 'multilabel'"),
    ],
)
def test_samples_that_archives_cannot_hold_are_refused(tmp_path, changes, reason):
    (tmp_path / "set").mkdir()
    write_any_set(
        tmp_path / "set", SampleLayout(**{"spec": make_spec(), "latent_shape": (2, 2, 3), **changes}), {"train": [3]}
    )
    with pytest.raises(CallError, match=f"holds samples {reason}; archives hold one latent per sample"):
        export_archives(tmp_path / "set", tmp_path / "out")
    assert not (tmp_path / "out").exists()
