from __future__ import annotations

import importlib.util
import pickle

import numpy as np
import pytest

from datasets_prep import holdout, open_source
from datasets_prep.samples.stored import FileSlice
from datasets_prep.sources.folders import csv_table
from tests.support.pictures import picture
from tests.support.reading_sources import keys, labels, message
from walloc_cdl.errors import CallError


@pytest.fixture
def table(tmp_path):
    """Write `list.csv` beside images `0.png` to `3.png` and return the text that names it as a source."""
    for number in range(4):
        picture(number).save(tmp_path / f"{number}.png")

    def write(text, name="list.csv", encoding="utf-8"):
        (tmp_path / name).write_text(text, encoding=encoding)
        return f"csv:{tmp_path / name}"

    return write


def test_files_labels_and_splits(table, tmp_path):
    text = "path,label,split\n1.png,dog,train\n0.png,cat,val\n\n2.png,,train\nsub/../3.png,cat,extra\n"
    source = open_source(table(text))
    assert source.name == "list"
    assert source.split_names == ["train", "validation", "extra"]
    assert source.class_names == ["cat", "dog"]
    assert (keys(source), labels(source), labels(source, "extra")) == (["1.png", "2.png"], [1, -1], [0])
    assert source.read("train", 0) == tmp_path / "1.png"
    assert source.num_bytes("train", 0) == (tmp_path / "1.png").stat().st_size
    assert pickle.loads(pickle.dumps(source.part("train", 1, 2)))[0] == tmp_path / "2.png"


def test_named_columns_tabs_and_byte_order_marks(table):
    text = "id\tfile\tkind\n7\t0.png\tx\n8\t1.png\ty\n"
    source = open_source(table(text, "list.tsv", "utf-8-sig") + "?key=id&label=kind")
    assert (keys(source), source.class_names) == (["7", "8"], ["x", "y"])
    source = open_source(table(text.replace("\t", ";")) + "?delimiter=;&label=id&keep=kind,id")
    assert (source.class_names, labels(source)) == (["7", "8"], [0, 1])
    assert source.listing.splits["train"].columns.to_pydict() == {"kind": ["x", "y"], "id": ["7", "8"]}


@pytest.mark.parametrize(
    ("encoding", "option"),
    [
        ("utf-16", ""),
        ("utf-16", "?encoding=utf-16"),
        ("utf-16-be", "?encoding=utf-16-be"),
        ("latin-1", "?encoding=latin-1"),
        ("cp1252", "?encoding=windows-1252"),
        ("shift-jis", "?encoding=shift-jis"),
    ],
)
def test_tables_in_other_encodings(table, encoding, option):
    names = ("犬", "猫") if encoding == "shift-jis" else ("Bär", "Möwe")
    text = f'path,label\r\n0.png,{names[0]}\r\n"1.png",{names[1]}\r\n'
    source = open_source(table(text, encoding=encoding) + option)
    assert source.class_names == sorted(names)
    assert keys(source) == ["0.png", "1.png"]


def test_kinds_of_labels(table):
    text = "path,tags,age,weight\n0.png,a|b,1.5,2\n1.png,,,3\n2.png,b,nan,4\n"
    source = open_source(table(text) + "?label=tags&separator=|")
    assert (source.listing.label_kind, source.class_names) == ("multilabel", ["a", "b"])
    assert source.listing.splits["train"].labels.dtype == np.uint8
    assert labels(source) == [[1, 1], [0, 0], [0, 1]]
    source = open_source(table(text) + "?target=weight,age")
    assert (source.listing.label_kind, source.class_names) == ("regression", ["weight", "age"])
    np.testing.assert_array_equal(
        source.listing.splits["train"].labels, np.array([[2, 1.5], [3, np.nan], [4, np.nan]], np.float32)
    )
    assert open_source(table(text)).class_names is None
    assert "target 'tags' is 'a|b'; expected a number, or nothing" in message(table(text) + "?target=tags")


def test_groups_stay_together(table, tmp_path):
    rows = "".join(f"{number}.png,{number % 2},p{number // 3}\n" for number in range(24))
    source = holdout(open_source(table("path,label,patient\n" + rows) + "?group=patient"), 0.25)
    groups = {split: set(source.listing.splits[split].groups) for split in source.split_names}
    assert len(groups["test"]) == 2
    assert not groups["train"] & groups["test"]


def test_repeated_paths_get_their_line_number(table):
    source = open_source(table("path\n0.png\n1.png\n0.png\n"))
    assert keys(source) == ["0.png#2", "1.png#3", "0.png#4"]


def test_urls_and_missing_files_have_no_size(table, tmp_path):
    source = open_source(table("url\nhttps://example.org/a.png?x=1\ngone.png\n"))
    assert source.read("train", 0) == FileSlice("https://example.org/a.png?x=1")
    assert [source.num_bytes("train", index) for index in range(2)] == [0, 0]
    assert source.absence() is None


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("../x.png", "path '../x.png' leaves the table's folder"),
        ("a/../../x.png", "path .* leaves the table's folder"),
        ("/etc/passwd", "absolute path '/etc/passwd'; give \\?absolute=1 if the table may name any file"),
        ("file:///etc/passwd", "URL 'file:///etc/passwd'; expected one of the schemes abfs"),
        ("simplecache::http://h/a.png", "URL 'simplecache::http://h/a.png'; expected one of the schemes"),
        ("zip://a.png::s3://b/c.zip", "URL 'zip://a.png::s3://b/c.zip'"),
        ("s3://b/c::d", "URL 's3://b/c::d'"),
        ("http://h/a::file:///etc/passwd", "URL 'http://h/a::file"),
        ('""', "path ''; expected the path or URL of an image file"),
    ],
)
def test_locations_that_a_table_may_not_name(table, location, reason):
    text = table(f"path,label\n0.png,a\n{location},b\n")
    with pytest.raises(CallError, match=f"line 3: {reason}"):
        open_source(text)


@pytest.mark.skipif(importlib.util.find_spec("s3fs") is not None, reason="needs to lack s3fs")
def test_a_scheme_whose_package_is_missing(table):
    assert "'s3://bucket/a.png' cannot be opened: " in message(table("url\ns3://bucket/a.png\n"))


def test_colons_that_make_no_chain(table):
    rows = ["http://[::1]:80/a.png", "https://h/a::b.png", "a::b.png"]
    source = open_source(table("url\n" + "\n".join(rows)) + "?public=1")
    assert keys(source) == rows
    assert source.read("train", 0) == FileSlice(rows[0], public=True)


def test_absolute_paths_with_the_option(table, tmp_path):
    source = open_source(table(f"path\n{tmp_path / '0.png'}\n") + "?absolute=1")
    assert source.read("train", 0) == tmp_path / "0.png"


def test_refusals(table, tmp_path):
    assert "does not exist; give the path of a CSV file" in message(f"csv:{tmp_path}/none.csv")
    assert "is a folder; give the path of a CSV file" in message(f"csv:{tmp_path}")
    assert "has no column names; give them in its first line" in message(table(""))
    assert "has no rows" in message(table("path,label\n"))
    assert "has the columns a, b; name the column of files or URLs with ?path=COLUMN" in message(table("a,b\n1,2\n"))
    assert "has the columns path, url; name the column" in message(table("path,url\n1,2\n"))
    assert "has no column 'kind'; its columns are path, label" in message(table("path,label\n1,2\n") + "?label=kind")
    assert "line 3: 1 fields, where the first line has 2" in message(table("path,label\n1,2\n3\n"))
    assert "has two columns with the same name" in message(table("path,path\n1,2\n"))
    assert "split '../x'; expected a name of letters" in message(table("path,split\n1,../x\n"))
    assert "source option absolute='yes'; expected 0 or 1" in message(table("path\n1\n") + "?absolute=yes")
    assert "source options label and target" in message(table("path,a\n1,2\n") + "?label=a&target=a")
    assert "option keep='a,a'; expected each column once" in message(table("path,a\n1,2\n") + "?keep=a,a")
    assert "option target='a,a'; expected each column once" in message(table("path,a\n1,2\n") + "?target=a,a")
    assert "has no column ''" in message(table("path,a\n1,2\n") + "?target=")
    assert "separator='|' without a label column" in message(table("path\n1\n") + "?separator=|")
    assert "delimiter='ab'; expected one character, or tab" in message(table("path\n1\n") + "?delimiter=ab")
    said = message(table("path\né.png\n", encoding="latin-1"))
    assert said.endswith("; expected CSV in UTF-8; see ?delimiter=, and ?encoding=, such as latin-1 or utf-16-le")
    assert "a zero byte in the first line, as in UTF-16 without" in message(
        table("path\n0.png\n", encoding="utf-16-le")
    )
    assert "unknown encoding 'x'; expected one such as latin-1" in message(table("path\n1\n") + "?encoding=x")
    assert "unknown encoding 'base64'; expected one such as latin-1" in message(table("path\n1\n") + "?encoding=base64")
    assert "expected CSV in ascii; see" in message(table("path\né.png\n") + "?encoding=ascii")
    assert "unexpected end of data; expected CSV" in message(table('path\n"0.png'))


def test_too_many_distinct_labels(table, monkeypatch):
    monkeypatch.setattr("datasets_prep.sources.core.label_kinds.MAX_CLASSES", 2)
    assert "more than 2 distinct labels, such as 'c'; choose a column of classes" in message(
        table("path,label\n0.png,a\n1.png,b\n2.png,c\n")
    )


def test_kept_columns_of_many_rows_are_on_disk(table, monkeypatch):
    monkeypatch.setattr(csv_table, "CHUNK_ROWS", 5)
    monkeypatch.setattr("datasets_prep.samples.arrow_columns.SPILL_BYTES", 64)
    rows = "".join(f"{number}.png,text {number}\n" for number in range(23))
    source = open_source(table("path,caption\n" + rows) + "?keep=caption")
    column = source.listing.splits["train"].columns["caption"]
    assert column.to_pylist() == [f"text {number}" for number in range(23)]
    assert column.num_chunks > 1
