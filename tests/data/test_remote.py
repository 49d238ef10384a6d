"""Data sets at an address: shards are fetched whole, checked, cached within a limit, and shared between processes."""

import errno
import functools
import gc
import http.server
import io
import os
import pickle
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.support.any_samples import FIXED, LABELS, RAGGED, write_any_set
from tests.support.small_sets import make_spec, write_small_set
from walloc_cdl import retries
from walloc_cdl.addresses import is_address
from walloc_cdl.cli.app import run
from walloc_cdl.data import LatentLoader, RemoteFolder, open_latents
from walloc_cdl.data.cache import BYTES_VARIABLE, FOLDER_VARIABLE, FileCache, default_bytes, default_folder
from walloc_cdl.data.dataset import SYNTHESIS_PATH
from walloc_cdl.data.files import CachedFiles
from walloc_cdl.errors import CallError, DamagedError, JobError
from walloc_cdl.latents import FileEntry, LabelSpec, SampleLayout, Shard, load_manifest

SIZES = [4, 4, 3]


class FlakyFileSystem(MemoryFileSystem):
    """A file system in memory that raises the given failures, and counts opened files."""

    protocol = "flaky"
    store = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    failures = []  # noqa: RUF012
    opened = Counter()  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(str(path).replace("flaky://", "memory://"))

    def open(self, path, mode="rb", **options):
        if mode == "rb":
            self.opened[path.rsplit("/", 1)[-1]] += 1
            if self.failures:
                raise self.failures.pop(0)
        return super().open(path, mode, **options)


fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)


@pytest.fixture
def local(tmp_path):
    folder = tmp_path / "local"
    folder.mkdir()
    return folder, write_small_set(folder, {"train": SIZES, "test": [2]}, files={"codec/config.json": b"{}"})


@pytest.fixture
def address(local, monkeypatch):
    """The address of a copy of the data set in memory."""
    FlakyFileSystem.store.clear()
    FlakyFileSystem.failures.clear()
    FlakyFileSystem.opened.clear()
    waits = []
    monkeypatch.setattr(retries.time, "sleep", waits.append)
    folder, _ = local
    for path in folder.rglob("*"):
        if path.is_file():
            with FlakyFileSystem().open(f"/sets/s/{path.relative_to(folder).as_posix()}", "wb") as file:
                file.write(path.read_bytes())
    return "flaky://sets/s"


@pytest.fixture
def cached(tmp_path):
    """Returns a function that lists the names of the files in the cache."""

    def names():
        return sorted(path.name for path in (tmp_path / "cache").glob("??/*") if path.name != "lock")

    return names


def replace_remote(name, data):
    with FlakyFileSystem().open(f"/sets/s/{name}", "wb") as file:
        file.write(data)


def test_a_remote_split_reads_as_the_local_one_and_is_fetched_once(local, address, tmp_path, cached):
    folder, content = local
    dataset = open_latents(address, "train", cache_dir=tmp_path / "cache")
    assert FlakyFileSystem.opened == {"manifest.json": 1}
    codes, labels = dataset.gather([10, 0])
    np.testing.assert_array_equal(codes, content["train"].codes[[10, 0]])
    np.testing.assert_array_equal(labels, content["train"].labels[[10, 0]])
    assert FlakyFileSystem.opened["train-00001.safetensors"] == 0  # not read yet
    assert dataset.keys([5]) == [content["train"].keys[5]]
    for _ in range(2):
        for mine, theirs in zip(LatentLoader(dataset, 4), LatentLoader(open_latents(folder, "train"), 4), strict=True):
            assert all(a.equal(b) for a, b in zip(mine, theirs, strict=True))
    again = open_latents(address, "train", cache_dir=tmp_path / "cache")
    again.fetch()
    shards = {name: count for name, count in FlakyFileSystem.opened.items() if name != "manifest.json"}
    assert shards == {f"train-0000{number}.safetensors": 1 for number in range(3)}
    assert cached() == sorted(entry.sha256 for entry in dataset.manifest.shards_of("train"))


@pytest.mark.parametrize("labels", LABELS, ids=lambda labels: f"{labels.kind}-{labels.num_columns}")
def test_remote_labels_of_every_kind_equal_the_local_ones(labels, tmp_path):
    import torch

    (tmp_path / "set").mkdir()
    layout = SampleLayout(make_spec(2), FIXED["image"], labels, 2)
    drawn = write_any_set(tmp_path / "set", layout, {"train": [3, 4, 2]})["train"]
    MemoryFileSystem().put(str(tmp_path / "set"), "/kinds", recursive=True)
    try:
        dataset = open_latents("memory://kinds", view=1, cache_dir=tmp_path / "cache")
        local = open_latents(tmp_path / "set", view=1)
        codes, found = dataset.gather([4, 0, 3])
        assert "labels" not in vars(dataset)
        np.testing.assert_array_equal(codes, drawn.codes[[4, 0, 3], 1])
        np.testing.assert_array_equal(found, local.gather([4, 0, 3])[1])
        assert found.dtype == local.gather([4])[1].dtype
        np.testing.assert_array_equal(torch.as_tensor(dataset[8][1]), torch.as_tensor(local[8][1]))
        np.testing.assert_array_equal(dataset.labels, local.labels)
    finally:
        MemoryFileSystem().rm("/kinds", recursive=True)


def test_a_ragged_split_is_fetched_at_once_and_its_shapes_read_once(tmp_path, monkeypatch):
    layout = SampleLayout(make_spec(2), RAGGED["image"], LabelSpec("class", 3))
    (tmp_path / "set").mkdir()
    write_any_set(tmp_path / "set", layout, {"train": [3, 4, 2]})
    MemoryFileSystem().put(str(tmp_path / "set"), "/ragged", recursive=True)
    events = []
    fetch, open_shard = CachedFiles.fetch, CachedFiles.open_shard
    monkeypatch.setattr(CachedFiles, "fetch", lambda self, *rest: events.append("fetch") or fetch(self, *rest))
    monkeypatch.setattr(CachedFiles, "open_shard", lambda self, *rest: events.append("open") or open_shard(self, *rest))
    try:
        loader = LatentLoader(open_latents("memory://ragged", cache_dir=tmp_path / "cache"), 4, crop=(1, 1))
        assert events == ["fetch", "open", "open", "open"]
        shapes = []
        monkeypatch.setattr(Shard, "shapes", property(lambda shard: shapes.append(shard)), raising=False)
        assert len(list(loader)) == 2
        assert shapes == []
    finally:
        MemoryFileSystem().rm("/ragged", recursive=True)


def test_a_data_set_is_pickled_without_its_maps(local, address, tmp_path):
    dataset = open_latents(address, "test", cache_dir=tmp_path / "cache")
    dataset.fetch()
    again = pickle.loads(pickle.dumps(dataset))
    assert again.gather([1])[0].equal(dataset.gather([1])[0])


def test_fetching_reports_its_progress(address, tmp_path):
    calls = []
    open_latents(address, cache_dir=tmp_path / "cache").fetch(lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_transient_errors_are_retried_and_permanent_ones_reported(address, tmp_path):
    FlakyFileSystem.failures += [OSError("connection reset"), TimeoutError(), RuntimeError("of some protocol")]
    dataset = open_latents(address, cache_dir=tmp_path / "cache")
    assert len(dataset) == sum(SIZES)
    FlakyFileSystem.failures += [OSError("no route")] * 4
    with pytest.raises(
        JobError, match=r"train-00000.safetensors cannot be reached \(OSError: no route\); check network"
    ):
        dataset.gather([0])
    FlakyFileSystem.failures += [PermissionError("not yours")]
    with pytest.raises(JobError, match="PermissionError: not yours"):  # raised at once, without a second attempt
        dataset.gather([0])
    assert not FlakyFileSystem.failures
    assert len(dataset.gather([0])[0]) == 1


class FullDisk(io.BytesIO):
    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_errors_of_local_files_are_raised_without_retries(address, local, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(retries.time, "sleep", waits.append)
    folder, entry = RemoteFolder(address), load_manifest(local[0]).shards[0]
    with pytest.raises(OSError, match="No space left on device") as caught:
        folder.download(entry.name, FullDisk(), num_bytes=entry.num_bytes, sha256=entry.sha256)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(FileNotFoundError) as caught:
        folder.upload("x", tmp_path / "missing")
    assert caught.value.filename == str(tmp_path / "missing")
    assert waits == []


def test_a_cache_that_cannot_be_written_is_named(address, tmp_path):
    (tmp_path / "cache").write_text("a file")
    dataset = open_latents(address, cache_dir=tmp_path / "cache")
    text = r"train-00000.safetensors cannot be kept in the cache .*cache \(Not a directory\); make room there, or name"
    with pytest.raises(JobError, match=text):
        dataset.gather([0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), r"SHA-256 is \w{12}…, expected \w{12}…; ask its owner"),
        (lambda data: data[:-1], r": \d+ bytes, expected \d+; ask its owner"),
        (lambda data: data + b"x", r": more than \d+ bytes, expected \d+; ask its owner"),
    ],
)
def test_other_content_never_reaches_the_cache(change, message, address, local, tmp_path, cached):
    data = (local[0] / "train-00000.safetensors").read_bytes()
    replace_remote("train-00000.safetensors", change(data))
    dataset = open_latents(address, cache_dir=tmp_path / "cache")
    with pytest.raises(DamagedError, match=message):
        dataset.gather([0])
    assert cached() == []
    replace_remote("train-00000.safetensors", data)
    dataset.gather([0])


def test_addresses_without_a_data_set_are_refused(address, tmp_path):
    FlakyFileSystem().rm("/sets/s/train-00001.safetensors")
    dataset = open_latents(address, cache_dir=tmp_path / "cache")
    with pytest.raises(DamagedError, match=r"s/train-00001.safetensors: missing, though the manifest lists it"):
        dataset.fetch()
    with pytest.raises(CallError, match=r"flaky://sets/none is no data set \(it has no manifest.json, or none that"):
        open_latents("flaky://sets/none")
    with pytest.raises(CallError, match=r"nothing://x: ValueError: Protocol not known: nothing; give a folder, or an"):
        open_latents("nothing://x")
    with pytest.raises(CallError, match="unknown split 'tran'; nearest: train"):
        open_latents(address, "tran")
    replace_remote("manifest.json", b"{}")
    with pytest.raises(DamagedError, match=r"flaky://sets/s/manifest.json: has no digest"):
        open_latents(address)


def test_a_split_that_exceeds_the_cache_is_refused_before_anything_is_fetched(address, tmp_path):
    with pytest.raises(CallError, match=r"split 'train' of .* takes \d+ bytes, more than the 1000 of the cache.*pull"):
        open_latents(address, cache_dir=tmp_path / "cache", cache_bytes=1000)
    assert FlakyFileSystem.opened == {"manifest.json": 1}


def test_a_file_that_exceeds_the_cache_is_refused_before_it_is_fetched(tmp_path, cached):
    (tmp_path / "local").mkdir()
    write_small_set(tmp_path / "local", {"train": [2]}, files={SYNTHESIS_PATH: bytes(2**20)})
    FlakyFileSystem.opened.clear()
    for path in (tmp_path / "local").rglob("*.*"):
        replace_remote(path.relative_to(tmp_path / "local").as_posix(), path.read_bytes())
    dataset = open_latents("flaky://sets/s", cache_dir=tmp_path / "cache", cache_bytes=100_000)
    with pytest.raises(CallError, match=r"/codec/synthesis.safetensors has 1048576 bytes, more than the 100000 of the"):
        _ = dataset.synthesis_bank
    assert SYNTHESIS_PATH not in FlakyFileSystem.opened
    assert cached() == []


@pytest.mark.parametrize("remote", [True, False])
def test_a_synthesis_that_is_larger_than_any_is_neither_fetched_nor_read(address, local, tmp_path, monkeypatch, remote):
    dataset = open_latents(address if remote else local[0], cache_dir=tmp_path / "cache")
    dataset.manifest.files[SYNTHESIS_PATH] = FileEntry(600_000_000, "ab" * 32)
    monkeypatch.setattr(type(dataset.stored.files), "path", lambda *arguments: pytest.fail("it was fetched"))
    with pytest.raises(DamagedError, match=r"synthesis.safetensors of 600000000 bytes, expected at most 134217728"):
        _ = dataset.synthesis_bank


def test_a_local_synthesis_of_another_size_than_listed_is_not_read(tmp_path):
    (tmp_path / "local").mkdir()
    write_small_set(tmp_path / "local", {"train": [2]}, files={SYNTHESIS_PATH: bytes(1000)})
    os.truncate(tmp_path / "local" / SYNTHESIS_PATH, 10**12)  # a hole
    with pytest.raises(DamagedError, match=r"synthesis.safetensors: 1000000000000 bytes, expected 1000; restore"):
        _ = open_latents(tmp_path / "local").synthesis_bank


def test_the_least_recently_used_files_are_removed_unless_in_use(address, tmp_path, cached):
    def opened(split):
        return open_latents(address, split, cache_dir=tmp_path / "cache", cache_bytes=limit)

    limit = 10**6
    train, test = opened("train"), opened("test")
    first, second, third = (entry for entry in train.manifest.shards_of("train"))
    (fourth,) = test.manifest.shards_of("test")
    limit = first.num_bytes + second.num_bytes + third.num_bytes
    train = opened("train")
    train.fetch()
    for age, entry in ((300, first), (200, second), (100, third)):
        path = tmp_path / "cache" / entry.sha256[:2] / entry.sha256
        os.utime(path, (path.stat().st_atime - age, path.stat().st_mtime - age))
    train.gather([0])  # opens the first, which marks it as used
    test = opened("test")
    test.fetch()
    assert cached() == sorted(entry.sha256 for entry in (first, third, fourth))
    del train
    gc.collect()
    again = opened("train")
    assert np.array_equal(again.gather(range(11))[0], open_latents(address, "train").gather(range(11))[0])


def test_a_removed_file_that_is_mapped_stays_readable(address, local, tmp_path):
    dataset = open_latents(address, cache_dir=tmp_path / "cache")
    dataset.gather([0])
    for path in (tmp_path / "cache").glob("??/*"):
        path.unlink()
    codes, _ = dataset.gather([0, 1, 10])
    np.testing.assert_array_equal(codes, local[1]["train"].codes[[0, 1, 10]])


def test_files_of_killed_processes_are_removed_by_the_next_fetch(tmp_path):
    cache = FileCache(tmp_path, 100)
    left = tmp_path / "ab" / f".{'ab' * 32}.{'0' * 16}.tmp"
    left.parent.mkdir()
    left.write_bytes(b"half")
    path = cache.fetch("ab" * 32, 3, lambda file: file.write(b"all"))
    assert path.read_bytes() == b"all"
    assert not left.exists()
    assert cache.fetch("ab" * 32, 3, lambda file: pytest.fail("it is there")) == path
    path.write_bytes(b"al")  # has another size, so it is fetched again
    assert cache.fetch("ab" * 32, 3, lambda file: file.write(b"all")).read_bytes() == b"all"


def test_threads_that_need_the_same_file_fetch_it_once(tmp_path):
    cache, calls = FileCache(tmp_path, 100), []

    def download(file):
        calls.append(1)
        threading.Event().wait(0.05)
        file.write(b"all")

    threads = [threading.Thread(target=cache.fetch, args=("cd" * 32, 3, download)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]


def test_folder_and_size_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "here"))
    monkeypatch.setenv(BYTES_VARIABLE, "123")
    assert (default_folder(), default_bytes()) == (tmp_path / "here", 123)
    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_folder() == tmp_path / "xdg" / "walloc-cdl"
    monkeypatch.setenv(BYTES_VARIABLE, "50GB")
    with pytest.raises(CallError, match="WALLOC_CDL_CACHE_BYTES is '50GB'; expected a number of bytes"):
        default_bytes()


@pytest.mark.parametrize("text", ["latents/flowers", "file:///sets/s", "C:/sets", "c://sets", "://x", "s3:/x"])
def test_paths_are_not_addresses(text):
    assert not is_address(text)
    assert is_address(f"s3://{text}")


class CountingHandler(http.server.SimpleHTTPRequestHandler):
    requests = Counter()  # noqa: RUF012
    refusals = []  # noqa: RUF012

    def do_GET(self):
        if self.refusals:
            self.send_error(self.refusals.pop(0))
            return
        self.requests[Path(self.path).name] += 1
        super().do_GET()

    def do_HEAD(self):
        if self.refusals:
            self.send_error(self.refusals[0])
            return
        super().do_HEAD()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(local):
    """The data set at an http:// address, on a server that does not support ranges."""
    CountingHandler.requests.clear()
    handler = functools.partial(CountingHandler, directory=str(local[0]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_failing_server_is_not_reported_as_a_missing_file(server, tmp_path, monkeypatch):
    pytest.importorskip("aiohttp")
    waits = []
    monkeypatch.setattr(retries.time, "sleep", waits.append)
    CountingHandler.refusals[:] = [503, 503]
    assert len(open_latents(server, cache_dir=tmp_path / "cache")) == sum(SIZES)
    assert waits
    assert not CountingHandler.refusals
    CountingHandler.refusals[:] = [403] * 4
    with pytest.raises(JobError, match=r"manifest.json cannot be reached \(ClientResponseError: 403"):
        open_latents(server, cache_dir=tmp_path / "cache")
    CountingHandler.refusals.clear()
    with pytest.raises(CallError, match="/nothing is no data set"):
        open_latents(f"{server}/nothing", cache_dir=tmp_path / "cache")
    waits.clear()
    with pytest.raises(JobError, match=r"http://127.0.0.1:9/manifest.json cannot be reached \(ClientConnectorError"):
        open_latents("http://127.0.0.1:9", cache_dir=tmp_path / "cache")
    assert len(waits) == 3


READ = """
import sys
from walloc_cdl.data import open_latents
dataset = open_latents(sys.argv[1], cache_dir=sys.argv[2])
print(int(dataset.gather(range(len(dataset)))[0].sum()))
"""


def test_processes_share_the_cache_and_fetch_each_shard_once(local, server, tmp_path):
    pytest.importorskip("aiohttp")
    command = [sys.executable, "-c", READ, server, str(tmp_path / "cache")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=120)[0].strip() for process in started]
    assert answers == [str(int(local[1]["train"].codes.sum()))] * 2
    assert all(CountingHandler.requests[f"train-0000{number}.safetensors"] == 1 for number in range(3))
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_the_command_line_takes_addresses(address, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    call = ["train", "flaky://sets/none", "--model", "test_resnet", "--out", str(tmp_path / "run")]
    assert run(call) == 2
    assert "flaky://sets/none is no data set" in capsys.readouterr().err
