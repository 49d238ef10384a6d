"""Whatever is read through fsspec ends within its time, though the file system stalls or drips."""

from __future__ import annotations

import hashlib
import io
import time

import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.hub.pull import HubRemote
from datasets_prep.samples import locations, web
from datasets_prep.samples.content import UnreadableError, read_stored
from datasets_prep.samples.locations import open_binary, read_range
from datasets_prep.samples.stored import FileSlice, ReadFailure
from datasets_prep.samples.web import FetchError
from tests.support.pictures import encoded, picture
from tests.support.slow_file_system import HANG_S, SlowFileSystem
from walloc_cdl import retries
from walloc_cdl.codec.hub_mixin import download
from walloc_cdl.data import RemoteFolder
from walloc_cdl.errors import CallError, JobError

URL = "slow://photos/train/a.png"
IMAGE = encoded(picture(0))
LIMIT_S = 0.3


@pytest.fixture(autouse=True)
def _system(monkeypatch):
    SlowFileSystem.store.clear()
    SlowFileSystem.pseudo_dirs[:] = [""]
    for name in ("a", "b"):
        with SlowFileSystem().open(f"/photos/train/cat/{name}.png", "wb") as file:
            file.write(IMAGE)
    with SlowFileSystem().open("/photos/train/a.png", "wb") as file:
        file.write(IMAGE)
    monkeypatch.setattr(SlowFileSystem, "slow", set())
    monkeypatch.setattr(locations, "RETRY_PAUSES_S", (0.0,) * 2)
    monkeypatch.setattr(web, "FETCH_S", LIMIT_S)
    monkeypatch.setattr(retries, "REMOTE_S", LIMIT_S)
    monkeypatch.setattr(retries, "LISTING_S", LIMIT_S)
    monkeypatch.setattr(retries, "SLOWEST_BYTES_PER_S", 10**12)
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < HANG_S - 1


def slow(*names: str) -> None:
    SlowFileSystem.slow.update(names)


@pytest.mark.parametrize("drips", [False, True])
@pytest.mark.parametrize(("call", "options"), [("cat_file", {}), ("size", {}), ("cat_file", {"num_bytes": 5})])
def test_a_sample(call, options, drips, monkeypatch):
    monkeypatch.setattr(SlowFileSystem, "drips", drips)
    assert read_range(URL, **options) == IMAGE[: options.get("num_bytes")]
    slow(call)
    with pytest.raises(FetchError, match=r"^took longer than 0.3 s$") as caught:
        read_range(URL, **options)
    assert caught.value.failure is ReadFailure.FAILED
    with pytest.raises(UnreadableError, match=r"^cannot be fetched: took longer than 0.3 s$"):
        read_stored(FileSlice(URL, **options))


def test_samples_share_an_instance_of_the_file_system():
    """Which has the connections."""
    SlowFileSystem.instances.clear()
    for _ in range(20):
        read_range(URL)
    assert len(SlowFileSystem.instances) == 1


def test_a_file_that_is_opened():
    with open_binary(URL) as file:
        assert file.read(8) == IMAGE[:8]
        assert file.seek(-3, io.SEEK_END) == len(IMAGE) - 3
        assert file.read() == IMAGE[-3:]
        file.seek(0)
        slow("read")
        with pytest.raises(FetchError, match=r"^took longer than 0.3 s$"):
            file.read()
    slow("open")
    with pytest.raises(FetchError, match=r"^took longer than 0.3 s$"):
        open_binary(URL)
    SlowFileSystem.slow.clear()
    with pytest.raises(OSError, match=r"nowhere"):
        open_binary("slow://nowhere/a.png")


@pytest.mark.parametrize("scheme", ["webdataset", "parquet", "imagefolder"])
def test_sources_of_one_file(scheme):
    suffix = {"webdataset": "tar", "parquet": "parquet", "imagefolder": "zip"}[scheme]
    with SlowFileSystem().open(f"/photos/a.{suffix}", "wb") as file:
        file.write(bytes(1024))
    for call in ("open", "read"):
        slow(call)
        with pytest.raises(CallError, match=r"took longer than 0.3 s"):
            open_source(f"{scheme}:slow://photos/a.{suffix}")


@pytest.mark.parametrize("call", ["isdir", "ls", "glob"])
def test_listings(call):
    source = "webdataset:slow://photos/*.tar" if call == "glob" else "imagefolder:slow://photos"
    slow(call)
    with pytest.raises(CallError, match=r"^'slow://photos\S*' cannot be listed: took longer than 0.3 s; check the URL"):
        open_source(source)


def test_a_job_stops(tmp_path, rgb_codec):
    source = open_source("imagefolder:slow://photos")
    assert source.channels == 3
    slow("cat_file")
    with pytest.raises(JobError, match=r"cannot be fetched: took longer than 0.3 s, although the source lists it"):
        prepare(source, rgb_codec, tmp_path / "out", PrepareConfig(size=32, workers=0))
    slow("isdir")
    with pytest.raises(JobError, match=r"^the server of 'slow://photos' is missing; restore it"):
        prepare(source, rgb_codec, tmp_path / "out", PrepareConfig(size=32, workers=0))


SLOW_FOLDER = r"^slow://photos/\S* cannot be reached \(TimeoutError: took longer than 0.3 s\); check network"


@pytest.mark.parametrize("call", ["open", "read"])
def test_files_of_a_remote_data_set(call):
    folder, digest = RemoteFolder("slow://photos"), hashlib.sha256(IMAGE).hexdigest()
    file = io.BytesIO()
    folder.download("train/a.png", file, num_bytes=len(IMAGE), sha256=digest)
    assert file.getvalue() == folder.read("train/a.png", 10**6) == IMAGE
    slow(call)
    with pytest.raises(JobError, match=SLOW_FOLDER):
        folder.read("train/a.png", 10**6)
    with pytest.raises(JobError, match=SLOW_FOLDER):
        folder.download("train/a.png", file, num_bytes=len(IMAGE), sha256=digest)


def test_changes_of_a_remote_data_set(tmp_path):
    folder = RemoteFolder("slow://photos")
    (tmp_path / "b").write_bytes(b"1")
    slow("put_file", "find", "rm_file")
    for change in (lambda: folder.upload("b", tmp_path / "b"), folder.names, lambda: folder.remove("train/a.png")):
        with pytest.raises(JobError, match=SLOW_FOLDER):
            change()
    SlowFileSystem.slow.clear()
    assert "train/a.png" in folder.names()


def test_downloads_from_the_hub(tmp_path, monkeypatch):
    """huggingface_hub limits single waits only."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: time.sleep(HANG_S))

    class Entry:
        size = 10

    remote = HubRemote("someone/flowers", "c" * 40, {"manifest.json": Entry()})
    text = r"^the Hub cannot be reached for someone/flowers \(TimeoutError: took longer than 0.3 s\); check the network"
    with pytest.raises(JobError, match=text):
        remote.read("manifest.json", 100)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: time.sleep(HANG_S))
    with pytest.raises(JobError, match=text):
        HubRemote.open("someone/flowers", None)
    with pytest.raises(
        JobError, match=r"^config.json of someone/codec cannot be fetched \(took longer than 0.3 s\); ch"
    ):
        download("someone/codec", "config.json")


def test_the_time_of_a_transfer_grows_with_what_has_come(monkeypatch):
    """A slow download is not ended while it goes on as fast as it must."""
    from walloc_cdl.data import remote

    monkeypatch.setattr(remote, "CHUNK_BYTES", 100)
    monkeypatch.setattr(retries, "SLOWEST_BYTES_PER_S", 100 / 0.1)
    read, calls = SlowFileSystem._wait, []

    def wait(self: SlowFileSystem, name: str) -> None:
        calls.append(name)
        time.sleep(0.05 if name == "read" else 0)
        read(self, name)

    monkeypatch.setattr(SlowFileSystem, "_wait", wait)
    data = IMAGE[:1500]
    with SlowFileSystem().open("/photos/c", "wb") as file:
        file.write(data)
    begin = time.monotonic()
    RemoteFolder("slow://photos").download("c", io.BytesIO(), num_bytes=1500, sha256=hashlib.sha256(data).hexdigest())
    assert time.monotonic() - begin > 2 * LIMIT_S
    assert calls.count("read") == 16
