from __future__ import annotations

import http.server
import io
import json
import pickle
import tarfile
import threading

import fsspec
import pytest

from datasets_prep import open_source
from datasets_prep.decode.images import ImagePreparation
from datasets_prep.decode.worker import undecodable
from datasets_prep.samples.content import read_stored
from datasets_prep.samples.stored import AudioSegment, BadSignalError, FileSlice
from datasets_prep.sources.folders.file_lists import expand_braces
from tests.datasets_prep.sources.test_tars import tar_bytes
from tests.support.pictures import encoded, picture
from tests.support.reading_sources import assert_is_picture, keys, labels, message
from walloc_cdl.errors import CallError


def sample(stem, seed, label=None, record=None):
    files = [(f"{stem}.png", encoded(picture(seed)))]
    if label is not None:
        files.append((f"{stem}.cls", str(label).encode()))
    if record is not None:
        files.append((f"{stem}.json", json.dumps(record).encode()))
    return files


def write(path, *samples):
    path.write_bytes(tar_bytes([file for files in samples for file in files]))
    return path


def test_samples_and_labels_by_tars(tmp_path):
    write(tmp_path / "train-000.tar", sample("b", 0, "owl"), sample("a", 1, "ant"))
    write(tmp_path / "train-001.tar", sample("sub/c", 2, "owl"))
    write(tmp_path / "val-000.tar", sample("z", 3, "bee"))
    source = open_source(f"webdataset:{tmp_path}/*.tar")
    assert source.name == tmp_path.name
    assert source.split_names == ["train", "validation"]
    assert source.class_names == ["ant", "bee", "owl"]
    assert keys(source) == ["b", "a", "sub/c"]
    assert (labels(source), labels(source, "validation")) == ([2, 0, 2], [1])
    assert_is_picture(source.read("train", 2), 2)
    assert source.num_bytes("train", 1) == len(encoded(picture(1)))
    assert source.channels == 3
    assert len(source.strays) == 0
    again = open_source(f"webdataset:{tmp_path}/{{train-000,train-001,val-000}}.tar")
    assert keys(again) == keys(source)


def test_parts_are_references_that_can_be_pickled(tmp_path):
    path = write(tmp_path / "a.tar", *[sample(f"{n}", n) for n in range(6)])
    part = open_source(f"webdataset:{path}").part("train", 2, 5)
    data = pickle.dumps(part)
    assert len(data) < 1000
    assert_is_picture(pickle.loads(data)[1], 3)


def test_integer_labels_are_in_the_order_of_numbers(tmp_path):
    write(tmp_path / "a.tar", sample("x", 0, 10), sample("y", 1, 9), sample("z", 2, "10\n"), sample("w", 3))
    source = open_source(f"webdataset:{tmp_path}/a.tar")
    assert source.class_names == ["9", "10"]
    assert labels(source) == [1, 0, 1, -1]


def test_labels_of_a_field(tmp_path):
    path = write(tmp_path / "a.tar", sample("x", 0, record={"kind": "cat"}), sample("y", 1, record={}))
    source = open_source(f"webdataset:{path}?label=kind")
    assert (source.class_names, labels(source)) == (["cat"], [0, -1])
    assert open_source(f"webdataset:{path}").class_names is None
    path = write(tmp_path / "b.tar", sample("x", 0, record={"k": ["b", "a"]}), sample("y", 1, record={"k": []}))
    source = open_source(f"webdataset:{path}?label=k")
    assert (source.listing.label_kind, source.class_names) == ("multilabel", ["a", "b"])
    assert labels(source) == [[1, 1], [0, 0]]
    unlabeled = [sample("u", 0, record={}), sample("v", 1), sample("x", 2, record={"k": ["b", None]})]
    write(tmp_path / "train-0.tar", *unlabeled[:2])
    write(tmp_path / "test-0.tar", *unlabeled)
    source = open_source(f"webdataset:{tmp_path}/t*-0.tar?label=k")
    assert (source.listing.label_kind, source.class_names) == ("multilabel", ["b"])
    assert (labels(source), labels(source, "test")) == ([[0], [0]], [[0], [0], [1]])
    path = write(tmp_path / "c.tar", sample("x", 0, record={"k": 1.5}))
    assert "json of sample 'c.tar/x' has '1.5' as 'k'; expected an integer, a name" in message(
        f"webdataset:{path}?label=k"
    )
    path = write(tmp_path / "d.tar", [*sample("x", 0), ("x.json", b"{")])
    assert "json of sample 'd.tar/x' cannot be read: " in message(f"webdataset:{path}?label=k")


def test_repeated_stems_get_the_name_of_their_tar(tmp_path):
    write(tmp_path / "a.tar", sample("1", 0), sample("2", 1), sample("1", 4))
    write(tmp_path / "b.tar", sample("1", 2))
    source = open_source(f"webdataset:{tmp_path}/*.tar")
    assert keys(source) == ["a.tar/1", "a.tar/2", "b.tar/1"]
    assert [(stray.key, stray.reason) for stray in source.strays] == [
        ("a.tar/1", "its stem occurs before in the same tar")
    ]


def test_members_that_are_not_images(tmp_path):
    files = [("a.txt", b"-"), ("__meta__.json", b"{}"), (".hidden.png", b"-"), ("noext", b"-")]
    path = write(tmp_path / "a.tar", files, [("b.thumb.PNG", encoded(picture(0))), ("b.mask.txt", b"-")])
    source = open_source(f"webdataset:{path}")
    assert keys(source) == ["b"]
    assert [(stray.key, stray.num_bytes, stray.reason) for stray in source.strays] == [
        ("a.tar/a", 1, "no image among its members")
    ]
    path = write(tmp_path / "b.tar", [("a.left.png", encoded(picture(0))), ("a.right.png", encoded(picture(1)))])
    assert message(f"webdataset:{path}").endswith(
        "sample 'b.tar/a' has several images, left.png and right.png; choose with ?image=left.png, or give ?dot=last "
        "if each is a sample"
    )
    assert_is_picture(open_source(f"webdataset:{path}?image=right.png").read("train", 0), 1)
    assert "no image in" in message(f"webdataset:{path}?image=webp")


def numbered(*rows):
    """Members `NAME.cls` with the label, or `NAME` with a picture, from (name, label or seed)."""
    return [(name, str(value).encode() if name.endswith("cls") else encoded(picture(value))) for name, value in rows]


def test_numbered_images_are_samples(tmp_path):
    frames = [("img.00.png", 0), ("img.00.cls", 5), ("img.01.cls", 6), ("img.01.png", 1), ("img.02.png", 2)]
    path = write(tmp_path / "a.tar", numbered(*frames, ("b.2024.01.png", 3), ("b.2024.02.JPG", 4)))
    source = open_source(f"webdataset:{path}")
    assert keys(source) == ["img.00", "img.01", "img.02", "b.2024.01", "b.2024.02"]
    assert (source.class_names, labels(source)) == (["5", "6"], [0, 1, -1, -1, -1])
    assert_is_picture(source.read("train", 1), 1)
    assert keys(open_source(f"webdataset:{path}?image=png")) == ["img.00", "img.01", "img.02", "b.2024.01"]
    assert keys(open_source(f"webdataset:{path}?image=01.png")) == ["img"]
    assert keys(open_source(f"webdataset:{path}?dot=last")) == keys(source)


def test_one_numbered_image_keeps_its_key_and_gets_its_label(tmp_path):
    path = write(tmp_path / "a.tar", numbered(("a.00.png", 0), ("a.00.cls", 7)), numbered(("b.1.png", 1)))
    source = open_source(f"webdataset:{path}")
    assert (keys(source), source.class_names, labels(source)) == (["a", "b"], ["7"], [0, -1])


def test_numbered_images_with_a_common_member_are_ambiguous(tmp_path):
    path = write(tmp_path / "a.tar", numbered(("a.0.png", 0), ("a.1.png", 1), ("a.cls", 7)))
    assert "sample 'a.tar/a' has several images, 0.png and 1.png; choose with ?image=0.png" in message(
        f"webdataset:{path}"
    )
    source = open_source(f"webdataset:{path}?image=1.png")
    assert (keys(source), source.class_names, labels(source)) == (["a"], ["7"], [0])


def test_a_tar_that_ends_within_numbered_images_keeps_those_before(tmp_path):
    path = write(tmp_path / "a.tar", numbered(("a.0.png", 0), ("a.1.png", 1), ("a.2.png", 2)))
    path.write_bytes(path.read_bytes()[: _infos(path)[2][1].offset])
    source = open_source(f"webdataset:{path}")
    assert keys(source) == ["a.0"]
    assert [stray.key for stray in source.strays] == ["a.tar/a.1", "a.tar"]


def test_stems_that_end_at_the_last_dot(tmp_path):
    files = [("dr.smith.png", 0), ("dr.smith.cls", 1), ("dr.jones.png", 2), (".hidden.png", 3), ("noext", 4)]
    path = write(tmp_path / "a.tar", numbered(*files))
    assert "if each is a sample" in message(f"webdataset:{path}")
    source = open_source(f"webdataset:{path}?dot=last")
    assert (keys(source), labels(source)) == (["dr.smith", "dr.jones"], [0, -1])
    assert "source option dot='first'; expected last" in message(f"webdataset:{path}?dot=first")


def test_truncated_and_damaged_tars_keep_their_complete_samples(tmp_path):
    path = write(tmp_path / "a.tar", *[sample(f"{n}", n, n % 2) for n in range(4)])
    whole = path.read_bytes()
    offsets = {name: info.offset for name, info in _infos(path)}
    for end, reason in (
        (offsets["3.png"] + 700, "the tar is truncated within its member 3.png, at"),
        (offsets["3.png"], "without an end mark: it may be truncated"),
    ):
        path.write_bytes(whole[:end])
        source = open_source(f"webdataset:{path}")
        assert keys(source) == ["0", "1"]
        assert (source.strays[0].key, source.strays[0].reason) == (
            "a.tar/2",
            "the last one of a tar that is cut off or damaged",
        )
        assert source.strays[1].key == "a.tar"
        assert reason in source.strays[1].reason
    position = offsets["2.cls"]
    path.write_bytes(whole[:position] + b"\xff" + whole[position + 1 :])
    source = open_source(f"webdataset:{path}")
    assert keys(source) == ["0", "1"]
    assert "the tar is damaged: the checksum of its header at" in source.strays[1].reason


def _infos(path):
    with tarfile.open(path) as tar:
        return [(info.name, info) for info in tar.getmembers()]


def test_tars_changed_or_removed_after_opening(tmp_path):
    path = write(tmp_path / "a.tar", sample("0", 0), sample("1", 1))
    source = open_source(f"webdataset:{path}")
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(BadSignalError, match=r"88 bytes, where [\d,]+ were listed"):
        read_stored(source.read("train", 0))
    assert source.absence() is None
    path.unlink()
    assert source.absence() == f"the tar '{path}'"
    with pytest.raises(BadSignalError, match="no such file"):
        read_stored(source.read("train", 0))


def test_refusals(tmp_path):
    assert "no file matches" in message(f"webdataset:{tmp_path}/*.tar")
    (tmp_path / "a.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    assert "is compressed with gzip" in message(f"webdataset:{tmp_path}/a.tar")
    assert "expected some of image, label, dot, public, splits, each once" in message(
        f"webdataset:{tmp_path}/a.tar?imag=png"
    )
    path = write(tmp_path / "b.tar", [("x.png", b"-"), ("x.cls", b"9" * 5000)])
    assert "cls of 'b.tar/x' has 5,000 bytes; expected at most 4,096" in message(f"webdataset:{path}")


def test_hidden_files_are_not_tars_of_a_folder(tmp_path):
    write(tmp_path / "train-0.tar", sample("a", 0))
    (tmp_path / "._train-0.tar").write_bytes(b"what macOS leaves beside it")
    assert keys(open_source(f"webdataset:{tmp_path}")) == ["a"]


def test_every_tar_named_by_braces_must_exist(tmp_path):
    write(tmp_path / "a-0.tar", sample("a", 0))
    assert message(f"webdataset:{tmp_path}/a-{{0..1}}.tar").startswith(f"'{tmp_path}/a-1.tar' does not exist; ")


def test_braces():
    assert expand_braces("a{1..3}b") == ["a1b", "a2b", "a3b"]
    assert expand_braces("a{08..11}") == ["a08", "a09", "a10", "a11"]
    assert expand_braces("{x,yy}{a}") == ["x{a}", "yy{a}"]
    with pytest.raises(CallError, match="names more than 1,000,000 files"):
        expand_braces("{000..999}{000..999}{0..1}")
    with pytest.raises(CallError, match="names more than 1,000,000 files"):
        expand_braces("{0..99999999999}")


def test_tars_at_a_url():
    system = fsspec.filesystem("memory")
    with system.open("/tars/train-0.tar", "wb") as file:
        file.write(tar_bytes(sample("a", 0, "x") + sample("b", 1, "y")))
    source = open_source("webdataset:memory://tars/*.tar")
    assert (source.name, keys(source), labels(source)) == ("tars", ["a", "b"], [0, 1])
    assert_is_picture(source.read("train", 1), 1)


@pytest.fixture
def server(tmp_path):
    """A server for `tmp_path` that supports ranges; `failures` are the statuses of its first responses."""

    class Handler(http.server.BaseHTTPRequestHandler):
        failures: list = []  # noqa: RUF012
        requests = 0

        def do_GET(self):
            type(self).requests += 1
            path = tmp_path / self.path.lstrip("/")
            status = self.failures.pop(0) if self.failures else 200 if path.is_file() else 404
            if status != 200:
                self.send_error(status)
                return
            data, wanted = path.read_bytes(), self.headers.get("Range")
            if wanted:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                piece = data[int(first) : int(last or len(data)) + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{int(first) + len(piece) - 1}/{len(data)}")
            else:
                piece = data
                self.send_response(200)
            self.send_header("Content-Length", str(len(piece)))
            self.end_headers()
            self.wfile.write(piece)

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}", Handler
    running.shutdown()
    running.server_close()


def test_tars_over_http(tmp_path, server):
    write(tmp_path / "train-0.tar", sample("a", 0, "x"), sample("b", 1, "y"))
    source = open_source(f"webdataset:{server[0]}/train-{{0..0}}.tar")
    assert (keys(source), labels(source)) == (["a", "b"], [0, 1])
    assert_is_picture(source.read("train", 1), 1)
    assert "cannot be read: HTTP status 404" in message(f"webdataset:{server[0]}/none.tar")


def test_transient_http_errors_are_retried(tmp_path, server, monkeypatch):
    monkeypatch.setattr("datasets_prep.samples.locations.RETRY_PAUSES_S", (0.0, 0.0))
    url, handler = server
    picture(5).save(tmp_path / "a.png")
    handler.failures[:] = [503, 429]
    assert_is_picture(FileSlice(f"{url}/a.png"), 5)
    assert handler.requests == 3
    handler.failures[:] = [500, 500, 500]
    with pytest.raises(BadSignalError, match=r"^cannot be fetched: HTTP status 500, 3 times$"):
        read_stored(FileSlice(f"{url}/a.png"))
    handler.requests = 0
    with pytest.raises(BadSignalError, match=r"^cannot be fetched: HTTP status 404$"):
        read_stored(FileSlice(f"{url}/gone.png"))
    assert handler.requests == 1
    monkeypatch.setattr("datasets_prep.samples.content.MAX_FILE_BYTES", 64)
    with pytest.raises(BadSignalError, match="more than 64 bytes at its URL"):
        read_stored(FileSlice(f"{url}/a.png"))
    with pytest.raises(BadSignalError, match=r"cannot be fetched: not reached \(\w+\), 3 times"):
        read_stored(FileSlice("http://127.0.0.1:9/a.png"))


def test_cases_without_a_request(tmp_path, server):
    """An empty range, and a URL whose worker exceeded its time limit: the parent process must not fetch it itself."""
    url, handler = server
    picture(5).save(tmp_path / "a.png")
    assert read_stored(FileSlice(f"{url}/a.png", 5, 0)) == b""
    chunk = undecodable(FileSlice(f"{url}/a.png"), "took longer than 120 s", ImagePreparation(3, 16))
    assert (chunk.reasons, chunk.hashes, handler.requests) == ({0: "took longer than 120 s"}, [None], 0)


def test_a_job_over_http_accounts_for_every_url(tmp_path, server, rgb_codec, monkeypatch):
    from datasets_prep import PrepareConfig, prepare

    monkeypatch.setattr("datasets_prep.samples.locations.RETRY_PAUSES_S", (0.0,))
    for number in range(3):
        picture(number).save(tmp_path / f"{number}.png")
    lines = ["url,label", *[f"{server[0]}/{number}.png,k{number % 2}" for number in range(4)]]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    source = open_source(f"csv:{tmp_path}/list.csv")
    manifest = prepare(source, rgb_codec, tmp_path / "out", PrepareConfig(size=32, workers=0))
    assert manifest.splits["train"].num_samples == 3
    assert manifest.ledger["reasons"] == {"cannot be fetched: HTTP status 404": 1}


def test_read_stored_of_other_kinds():
    assert read_stored(b"x") == b"x"
    with pytest.raises(BadSignalError, match="no such file at its URL"):
        read_stored(FileSlice("memory://nowhere/a.png"))
    with pytest.raises(TypeError, match="is not a whole file"):
        read_stored(AudioSegment(io.BytesIO(), 0))
