"""`prepare_to` makes the same data set at an address as in a folder, also when the job is interrupted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from datasets_prep import IterableSource, PrepareConfig, open_source, prepare, prepare_to
from datasets_prep.prepare_remote import default_work
from tests.support.pictures import picture
from walloc_cdl import retries
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError, JobError

SMALL = PrepareConfig(size=32, shard_samples=5, workers=0)
ADDRESS = "counted://bucket/flowers"


class StopError(BaseException):
    """Raised to interrupt a job."""


class CountedFileSystem(MemoryFileSystem):
    """A file system in memory that records uploads, and stops the job before the upload with a given number."""

    protocol = "counted"
    store = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    puts = []  # noqa: RUF012
    stop_at = None
    failures = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(str(path).replace("counted://", "memory://"))

    def put_file(self, local, path, **options):
        if self.failures:
            raise self.failures.pop(0)
        if len(self.puts) == CountedFileSystem.stop_at:
            raise StopError
        self.puts.append(path.removeprefix("/bucket/flowers/"))
        super().put_file(local, path, **options)


fsspec.register_implementation("counted", CountedFileSystem, clobber=True)


@pytest.fixture
def bucket(monkeypatch):
    """A function that returns the files at the address: content by name."""
    CountedFileSystem.store.clear()
    CountedFileSystem.puts.clear()
    CountedFileSystem.failures.clear()
    CountedFileSystem.stop_at = None
    monkeypatch.setattr(retries.time, "sleep", lambda delay_s: None)

    def content():
        found = {
            path.removeprefix("/bucket/flowers/"): file.getvalue() for path, file in CountedFileSystem.store.items()
        }
        return without_provenance(found)

    return content


@pytest.fixture
def source(make_folder):
    return open_source(str(make_folder()))


def without_provenance(found: dict[str, bytes]) -> dict[str, bytes]:
    """Return all files except the provenance, which has the time, and its copy."""
    return {name: data for name, data in found.items() if name not in ("provenance.json", "copy/provenance.json")}


def contents(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return without_provenance(found)


@pytest.fixture
def undisturbed(source, rgb_codec, tmp_path):
    prepare(source, rgb_codec, tmp_path / "undisturbed", SMALL)
    return contents(tmp_path / "undisturbed")


def test_the_files_of_a_folder_are_uploaded_once_and_the_manifest_last(
    source, rgb_codec, tmp_path, bucket, undisturbed
):
    manifest = prepare_to(source, rgb_codec, ADDRESS, SMALL, work=tmp_path / "work")
    assert bucket() == undisturbed
    assert sorted(CountedFileSystem.puts) == sorted([*undisturbed, "provenance.json", "copy/provenance.json"])
    assert CountedFileSystem.puts[-2:] == ["provenance.json", "manifest.json"]
    assert CountedFileSystem.puts[:6] == [entry.name for entry in manifest.shards]  # each when it was done
    assert not (tmp_path / "work").exists()
    assert len(open_latents(ADDRESS, "train", cache_dir=tmp_path / "cache").gather([3])[0]) == 1
    notes = []
    again = prepare_to(
        source, rgb_codec, ADDRESS, SMALL, work=tmp_path / "work", progress=lambda state: notes.append(state.note)
    )
    assert again.to_json() == manifest.to_json()
    assert notes == [f"{ADDRESS} is already finished; nothing to do"]
    assert len(CountedFileSystem.puts) == len(undisturbed) + 2


def test_a_job_stopped_before_every_upload_uploads_nothing_twice(source, rgb_codec, tmp_path, bucket, undisturbed):
    for number in range(len(undisturbed) + 2):
        CountedFileSystem.stop_at = number
        with pytest.raises(StopError):
            prepare_to(source, rgb_codec, ADDRESS, SMALL, work=tmp_path / "work")
        assert "manifest.json" not in bucket()
    CountedFileSystem.stop_at = None
    prepare_to(source, rgb_codec, ADDRESS, SMALL, work=tmp_path / "work")
    assert bucket() == undisturbed
    assert len(CountedFileSystem.puts) == len(set(CountedFileSystem.puts)) == len(undisturbed) + 2
    assert not (tmp_path / "work").exists()


def test_transient_errors_are_retried_and_permanent_ones_raised(source, rgb_codec, tmp_path, bucket, undisturbed):
    CountedFileSystem.failures += [OSError("slow down")] * 3
    CountedFileSystem.stop_at = 2
    with pytest.raises(StopError):
        prepare_to(source, rgb_codec, ADDRESS, SMALL, work=tmp_path / "work")
    CountedFileSystem.failures += [OSError("no route")] * 4
    with pytest.raises(JobError, match=r"flowers/\S+ cannot be reached \(OSError: no route\); check network and cred"):
        prepare_to(source, rgb_codec, ADDRESS, SMALL, work=tmp_path / "work")
    CountedFileSystem.failures += [PermissionError("read-only key")]
    with pytest.raises(JobError, match="PermissionError: read-only key"):
        prepare_to(source, rgb_codec, ADDRESS, SMALL, work=tmp_path / "work")
    CountedFileSystem.stop_at = None
    prepare_to(source, rgb_codec, ADDRESS, SMALL, work=tmp_path / "work")
    assert bucket() == undisturbed


def test_another_plan_and_foreign_files_are_refused_without_restart(source, rgb_codec, tmp_path, bucket, undisturbed):
    more = replace(SMALL, shard_samples=3)
    prepare_to(source, rgb_codec, ADDRESS, more, work=tmp_path / "work")
    with pytest.raises(CallError, match=r"flowers holds a finished data set with .*, but this call has .*--restart"):
        prepare_to(source, rgb_codec, ADDRESS, SMALL, work=tmp_path / "work")
    prepare_to(source, rgb_codec, ADDRESS, replace(SMALL, restart=True), work=tmp_path / "work")
    assert bucket() == undisturbed  # no shard of the finer plan is left
    CountedFileSystem().pipe_file("/bucket/flowers/thesis.tex", b"Chapter 1")
    CountedFileSystem().rm_file("/bucket/flowers/manifest.json")
    with pytest.raises(CallError, match=r"flowers holds other files \(thesis.tex\); give an address without files"):
        prepare_to(source, rgb_codec, ADDRESS, SMALL, work=tmp_path / "work")
    assert bucket()["thesis.tex"] == b"Chapter 1"


def test_restart_removes_uploads_of_an_unfinished_job_of_another_plan(source, rgb_codec, tmp_path, bucket, undisturbed):
    CountedFileSystem.stop_at = 7
    with pytest.raises(StopError):
        prepare_to(source, rgb_codec, ADDRESS, replace(SMALL, shard_samples=2), work=tmp_path / "work")
    CountedFileSystem.stop_at = None
    prepare_to(source, rgb_codec, ADDRESS, replace(SMALL, restart=True), work=tmp_path / "work")
    assert bucket() == undisturbed


def test_a_foreign_work_folder_is_refused_and_only_the_jobs_files_are_removed(
    source, rgb_codec, tmp_path, bucket, undisturbed
):
    work = tmp_path / "work"
    (work / "set").mkdir(parents=True)
    (work / "set/thesis.tex").write_text("Chapter 1")
    for config in (SMALL, replace(SMALL, restart=True)):
        with pytest.raises(CallError, match=r"work folder \S+work holds other files \(set\); give a new or empty"):
            prepare_to(source, rgb_codec, ADDRESS, config, work=work)
    assert (work / "set/thesis.tex").read_text() == "Chapter 1"
    assert bucket() == {}
    work = tmp_path / "other"
    CountedFileSystem.stop_at = 3
    with pytest.raises(StopError):
        prepare_to(source, rgb_codec, ADDRESS, SMALL, work=work)
    CountedFileSystem.stop_at = None
    with pytest.raises(
        CallError, match=r"is that of counted://bucket/flowers; give counted://bucket/trees another one"
    ):
        prepare_to(source, rgb_codec, "counted://bucket/trees", SMALL, work=work)
    (work / "job.log").write_text("42 samples")
    prepare_to(source, rgb_codec, ADDRESS, SMALL, work=work)
    assert bucket() == undisturbed
    assert prepare_to(source, rgb_codec, ADDRESS, SMALL, work=work) is not None  # which is finished already
    assert [path.name for path in work.iterdir()] == ["job.log"]


def test_a_file_that_the_address_has_lost_is_uploaded_again(source, rgb_codec, tmp_path, bucket, undisturbed):
    CountedFileSystem.stop_at = 8
    with pytest.raises(StopError):
        prepare_to(source, rgb_codec, ADDRESS, SMALL, work=tmp_path / "work")
    CountedFileSystem.stop_at = None
    for name in CountedFileSystem.puts[1], CountedFileSystem.puts[7]:
        CountedFileSystem().rm_file(f"/bucket/flowers/{name}")
    prepare_to(source, rgb_codec, ADDRESS, SMALL, work=tmp_path / "work")
    assert bucket() == undisturbed
    assert len(CountedFileSystem.puts) == len(undisturbed) + 2 + 2


def test_slices_that_share_the_work_folder(source, rgb_codec, tmp_path, bucket, undisturbed):
    for part in ("2/2", "1/2"):
        assert prepare_to(source, rgb_codec, ADDRESS, replace(SMALL, shards=part), work=tmp_path / "work") is None
    assert len(bucket()) == 6
    prepare_to(source, rgb_codec, ADDRESS, replace(SMALL, finish=True), work=tmp_path / "work")
    assert bucket() == undisturbed
    assert len(CountedFileSystem.puts) == len(undisturbed) + 2


def test_streams(rgb_codec, tmp_path, bucket):
    rows = [(picture(number), number % 2) for number in range(11)]
    source = IterableSource(rows, name="rows", class_names=["cat", "dog"])
    prepare(source, rgb_codec, tmp_path / "folder", SMALL)
    for number in (1, 3):
        CountedFileSystem.stop_at = number
        with pytest.raises(StopError):
            prepare_to(source, rgb_codec, ADDRESS, SMALL, work=tmp_path / "work")
    CountedFileSystem.stop_at, said = None, []
    prepare_to(source, rgb_codec, ADDRESS, SMALL, work=tmp_path / "work")
    assert bucket() == contents(tmp_path / "folder")
    prepare_to(source, rgb_codec, ADDRESS, SMALL, work=tmp_path / "work", progress=said.append)
    assert (said[0].done, said[0].note) == (11, f"{ADDRESS} is already finished; nothing to do")


def test_shards_without_their_duplicates_are_uploaded_again(make_folder, rgb_codec, tmp_path, bucket):
    root = make_folder()
    (root / "train/dog/03.png").write_bytes((root / "train/cat/01.png").read_bytes())
    source, config = open_source(str(root)), replace(SMALL, drop_duplicates=True)
    prepare(source, rgb_codec, tmp_path / "folder", config)
    prepare_to(source, rgb_codec, ADDRESS, config, work=tmp_path / "work")
    assert bucket() == contents(tmp_path / "folder")


def test_addresses_that_are_for_other_commands(source, rgb_codec, tmp_path):
    with pytest.raises(CallError, match="prepare into a folder, then `cdl push` it"):
        prepare_to(source, rgb_codec, "hf://datasets/someone/flowers", SMALL)
    with pytest.raises(CallError, match="https://host/flowers: web servers are read-only; give a folder"):
        prepare_to(source, rgb_codec, "https://host/flowers", SMALL)
    with pytest.raises(CallError, match="s3://bucket/x is an address, not a folder; use `prepare_to` to write there"):
        prepare(source, rgb_codec, "s3://bucket/x", SMALL)


def test_each_address_has_its_own_work_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("WALLOC_CDL_CACHE", str(tmp_path))
    folders = {default_work(address) for address in ("s3://a/b", "s3://a_b", "s3://a/b/c")}
    assert len(folders) == 3
    assert {folder.parent for folder in folders} == {tmp_path / "prepare"}
