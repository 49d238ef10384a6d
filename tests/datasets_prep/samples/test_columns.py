"""Columns of listings: the same on disk as in memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_prep.samples import columns
from datasets_prep.samples.columns import Column, RowNumbers, TextColumn
from datasets_prep.sources import Stray
from datasets_prep.sources.core.strays import StrayColumn


@pytest.fixture(params=["memory", "disk"], autouse=True)
def limits(request, monkeypatch):
    if request.param == "disk":
        monkeypatch.setattr(columns, "SPILL_BYTES", 16)
        monkeypatch.setattr(columns, "CHUNK_ROWS", 3)
    return request.param


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_numbers(values):
    column = Column(np.int64)
    for value in values[:7]:
        column.append(value)
    column.extend(np.array(values[7:], np.int64))
    assert column.array().tolist() == values


def test_large_columns_are_files(limits):
    column = Column(np.int64)
    column.extend(np.arange(100))
    assert isinstance(column.array(), np.memmap) == (limits == "disk")


@given(st.lists(st.binary(max_size=9), max_size=12))
def test_texts(values):
    column = TextColumn()
    for value in values:
        column.append(value)
    texts = column.texts()
    assert [texts.raw(index) for index in range(len(texts))] == values
    assert list(texts) == texts[:] == [value.decode("utf-8", "backslashreplace") for value in values]
    with pytest.raises(IndexError):
        texts[len(values)]


def test_names_that_are_not_utf8_are_escaped():
    column = TextColumn()
    column.append(b"caf\xe9.jpg")
    assert column.texts()[-1] == "caf\\xe9.jpg"


def test_row_numbers():
    rows = RowNumbers(100_000_001)
    assert (rows[0], rows[-1], len(rows)) == ("00000000", "100000000", 100_000_001)
    assert rows[7:9] == ["00000007", "00000008"]


def test_strays():
    strays = [
        Stray("train", "a.txt", 3, "no image"),
        Stray(None, "b\\xff é", 0, "a pipe"),
        Stray("train", "c", 9, "no image"),
    ]
    column = StrayColumn()
    for stray in strays:
        column.append(stray)
    assert list(column.strays()) == column.strays()[:] == strays
