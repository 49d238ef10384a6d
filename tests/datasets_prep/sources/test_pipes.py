"""A pipe in place of a file of the user is refused at once; opening it would wait for a writer forever."""

from __future__ import annotations

import codecs
import os

import pytest

from datasets_prep.samples.content import read_stored
from datasets_prep.samples.locations import open_binary, read_range
from datasets_prep.samples.stored import BadSignalError, FileSlice
from datasets_prep.sources.archives.imagenet_labels import validation_synsets
from datasets_prep.sources.core.label_files import label_lines
from tests.support.reading_sources import message
from walloc_cdl.errors import CallError
from walloc_cdl.files import open_regular


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_label_files(pipe):
    with pytest.raises(CallError, match=r"pipe' cannot be read: not a regular file; expected lines of NAME LABEL"):
        list(label_lines(pipe))
    with pytest.raises(CallError, match=r"null' cannot be read: not a regular file; expected lines of NAME LABEL"):
        list(label_lines(type(pipe)("/dev/null")))
    with pytest.raises(CallError, match="is not a regular file; give the label file"):
        validation_synsets(pipe, None)


def test_files_of_imagenet(pipe, tmp_path):
    truth = tmp_path / "truth.txt"
    truth.write_text("1\n")
    with pytest.raises(CallError, match=r"is not the devkit's meta.mat \(.*not a regular file"):
        validation_synsets(truth, pipe)
    os.mkfifo(tmp_path / "meta.mat")
    with pytest.raises(CallError, match=r"has the devkit's own class numbers; also give \?meta=FILE"):
        validation_synsets(truth, None)


def test_tables_and_arrays(pipe):
    assert "is not a regular file; give the path of a CSV file" in message(f"csv:{pipe}")
    assert "no file matches" in message(f"webdataset:{pipe}")
    assert "no file matches" in message(f"parquet:{pipe}")
    assert "does not exist" in message(f"npy:{pipe}")


def test_a_file_that_became_a_pipe(pipe):
    with pytest.raises(BadSignalError, match="not a regular file"):
        read_stored(FileSlice(str(pipe), 0, 10))
    with pytest.raises(BadSignalError, match="not a regular file"):
        read_stored(pipe)
    for read in (open_binary, read_range, open_regular):
        with pytest.raises(OSError, match="not a regular file"):
            read(str(pipe))


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + "ä.png ö".encode(),
        "ä.png ö".encode("utf-16"),
        codecs.BOM_UTF16_BE + "ä.png ö".encode("utf-16-be"),
    ],
)
def test_label_files_with_byte_order_marks(tmp_path, data):
    (tmp_path / "labels.txt").write_bytes(data)
    assert list(label_lines(tmp_path / "labels.txt")) == [(1, "ä.png", "ö")]


@pytest.mark.parametrize("data", ["ä.png ö".encode("latin-1"), "ä.png ö".encode("utf-16")[:-1]])
def test_label_files_in_other_encodings(tmp_path, data):
    (tmp_path / "labels.txt").write_bytes(data)
    with pytest.raises(
        CallError, match="cannot be read: it is not UTF-8 text; convert it, such as with `iconv -f latin1"
    ):
        list(label_lines(tmp_path / "labels.txt"))
