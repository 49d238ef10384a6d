"""Rows that name files: a data set from elsewhere reads no file of this machine, and does not tell which exist."""

from __future__ import annotations

import os
import pickle

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Value

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.samples.content import read_stored
from datasets_prep.samples.stored import BadSignalError, FileSlice, UnusableSample
from datasets_prep.sources import open_stream
from tests.support.pictures import encoded, picture
from tests.support.reading_sources import message
from tests.support.web_servers import serving

FORBIDDEN = [
    ("/etc/passwd", "absolute path '/etc/passwd'; give ?absolute=1 if the data set may name any file"),
    ("/etc/no-such-file", "absolute path '/etc/no-such-file'; give ?absolute=1 if the data set may name any file"),
    ("../../etc/passwd", "path '../../etc/passwd' leaves the data set's folder; move the data set or the files"),
    ("a/../../b.png", "path 'a/../../b.png' leaves the data set's folder"),
    ("file:///etc/passwd", "URL 'file:///etc/passwd'; expected one of the schemes abfs, "),
    ("ftp://h/a.png", "URL 'ftp://h/a.png'; expected one of the schemes abfs, "),
    ("zip://a.png::/tmp/b.zip", "URL 'zip://a.png::/tmp/b.zip'; expected one of the schemes"),
    ("a\0.png", "path 'a\\x00.png'; expected the path or URL of an image file"),
]
PLAIN = Features({"image": {"bytes": Value("binary"), "path": Value("string")}})
"""As an attacker writes images: `datasets` replaces the path of an `Image` by the file's content where it is saved."""

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(params=["parquet", "hf"])
def write(request, tmp_path):
    """Write rows with these paths into `tmp_path / "set"` and return the text that names the source."""
    folder = tmp_path / "set"
    folder.mkdir()

    def written(*paths: str) -> str:
        rows = [{"bytes": encoded(picture(9)), "path": "/etc/passwd"}, *({"bytes": None, "path": p} for p in paths)]
        if request.param == "parquet":
            pq.write_table(pa.table({"image": pa.array(rows, IMAGE)}), folder / "a.parquet")
            return f"parquet:{folder}/a.parquet"
        Dataset.from_dict({"image": rows}, features=PLAIN).save_to_disk(folder)
        return f"hf:{folder}"

    return written


@pytest.mark.parametrize(("path", "said"), FORBIDDEN)
def test_rows_that_name_a_forbidden_file(write, path, said):
    text = write(path)
    assert f"row 1: {said}" in message(text)
    if "parquet" in text:
        assert "a.parquet', row 1: " in message(text)


def test_rows_that_name_files(write, tmp_path):
    picture(1).save(tmp_path / "set" / "1.png")
    picture(2).save(tmp_path / "2.png")
    text = write("1.png", "gone.png", str(tmp_path / "2.png"), "http://h/a.png")
    source = open_source(f"{text}?absolute=1&public=1")
    stored = list(pickle.loads(pickle.dumps(source.part("train", 0, 5))))
    assert stored[0] == encoded(picture(9))
    assert [os.fspath(each) for each in stored[1:4]] == [
        str(tmp_path / "set" / "1.png"),
        str(tmp_path / "set" / "gone.png"),
        str(tmp_path / "2.png"),
    ]
    assert stored[4] == source.read("train", 4) == FileSlice("http://h/a.png", public=True)
    if text.startswith("hf"):
        assert source.num_bytes("train", 1) == (tmp_path / "set" / "1.png").stat().st_size


def test_files_at_a_url_quarantine_what_they_may_not_name(rgb_codec, tmp_path):
    paths = ["/etc/passwd", "../b.png", "file:///etc/passwd", "0.png", "/etc/no-such-file"]
    rows = [*({"bytes": None, "path": path} for path in paths), {"bytes": encoded(picture(1)), "path": None}]
    system = fsspec.filesystem("memory")
    with system.open("/named/a.parquet", "wb") as file:
        pq.write_table(pa.table({"image": pa.array(rows, IMAGE)}), file)
    system.pipe("/named/0.png", encoded(picture(0)))
    source = open_source("parquet:memory://named/*.parquet")
    assert (
        source.read("train", 0) == source.read("train", 4) == UnusableSample("an absolute path, which needs absolute=1")
    )
    assert read_stored(source.read("train", 3)) == encoded(picture(0))
    manifest = prepare(source, rgb_codec, tmp_path / "out", PrepareConfig(size=32, workers=0))
    assert manifest.splits["train"].num_samples == 2
    assert manifest.ledger["reasons"] == {
        "an absolute path, which needs absolute=1": 2,
        "a path that leaves its folder": 1,
        "a URL of another scheme": 1,
    }


def test_streams_quarantine_what_they_may_not_name(tmp_path, rgb_codec):
    rows = [{"bytes": encoded(picture(1)), "path": None}, {"bytes": None, "path": "/etc/passwd"}]
    Dataset.from_dict({"image": rows}, features=PLAIN).save_to_disk(tmp_path / "saved")
    stream = open_stream(f"hf:{tmp_path / 'saved'}?streaming=1")
    stored = [sample for _, _, sample in stream.stream("train")]
    assert stored == [encoded(picture(1)), UnusableSample("an absolute path, which needs absolute=1")]
    with pytest.raises(BadSignalError, match="an absolute path, which needs absolute=1"):
        read_stored(stored[1])
    manifest = prepare(stream, rgb_codec, tmp_path / "out", PrepareConfig(size=32, workers=0))
    assert manifest.ledger["reasons"] == {"an absolute path, which needs absolute=1": 1}


def test_a_folder_of_images_that_datasets_opens(tmp_path):
    """`datasets` stores absolute paths of the files that it finds in the folder."""
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        picture(number).save(tmp_path / "photos" / name / "a.png")
    (tmp_path / "linked").symlink_to("photos")
    for name in ("photos", "linked"):
        source = open_source(f"hf:{tmp_path / name}")
        assert [read_stored(source.read("train", row)) for row in range(2)] == [
            encoded(picture(0)),
            encoded(picture(1)),
        ]


def test_public_addresses_of_tars_and_parquet_files(tmp_path):
    with serving(lambda request: request.answer(404)) as url:
        assert "cannot be read: HTTP status 404" in message(f"parquet:{url}/a.parquet")
        for text in (f"webdataset:{url}/a.tar?public=1", f"parquet:{url}/a.parquet?public=1"):
            assert "cannot be read: at a private address, which public=1 refuses" in message(text)
