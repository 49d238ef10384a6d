"""Untrusted JSON: what is refused before anything is built from it, and the memory that the rest takes."""

import os

import pytest

from tests.support.memory import PeakMemory
from walloc_cdl.errors import DamagedError
from walloc_cdl.json_files import MAX_DEPTH, MAX_JSON_BYTES, parse_json, read_json


def test_values_of_64_bits_and_deep_values_are_read(tmp_path):
    path = tmp_path / "a.json"
    deepest = b"[" * (MAX_DEPTH - 1) + b"[-9223372036854775808, 18446744073709551615]" + b"]" * (MAX_DEPTH - 1)
    path.write_bytes(rb'{"a": "\"[[\\", "b": [1.5e300, true, null, {}], "c": ' + deepest[:-1] + b"]}")
    with pytest.raises(DamagedError, match="nested deeper than 64 levels"):
        read_json(path)
    path.write_bytes(rb'{"a": "\"[[\\", "b": [1.5e300, true, null, {}], "\u00e9": "\ud83d\ude00"}')
    assert read_json(path) == {"a": '"[[\\', "b": [1.5e300, True, None, {}], "é": "😀"}
    value = parse_json(deepest)
    for _ in range(MAX_DEPTH - 1):
        (value,) = value
    assert value == [-(2**63), 2**64 - 1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b"{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b'{"a": 1, "a": 1}', "a name occurs twice in one object"),
        (b"[NaN]", "NaN is no number"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"[1e999]", "the number 1e999 exceeds 64 bits"),
        (b"[18446744073709551616]", "the integer 18446744073709551616 exceeds 64 bits"),
        (b"[-9223372036854775809]", "the integer -9223372036854775809 exceeds 64 bits"),
        (b"9" * 10_000, "the integer 999999999999999999999999999999… exceeds 64 bits"),
        (b"[" * 600 + b"]" * 600, "nested deeper than 64 levels"),
        (b'{"a":' * 100_000, "nested deeper than 64 levels"),
        (rb'["\ud800"]', "'utf-8' codec can't encode character '\\ud800' in position 0: surrogates not allowed"),
        (b'["\xff"]', "'utf-8' codec can't decode byte 0xff in position 2: invalid start byte"),
        (b'["' + rb"\"" * 100, "Unterminated string starting at: line 1 column 2 (char 1)"),
        (b"[" + b"[]," * 100_000 + b"0]", "more than 74,911 arrays and objects, which is too many for its size"),
    ],
)
def test_other_json_is_refused_in_one_line(tmp_path, text, reason):
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(DamagedError) as caught:
        read_json(path, remedy="make it again")
    assert str(caught.value) == f"{path}: not readable as JSON ({reason}); make it again"


def test_large_and_special_files_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "a.json"
    path.touch()
    os.truncate(path, MAX_JSON_BYTES + 1)
    with pytest.raises(DamagedError, match=r"a\.json: 16,777,217 bytes, expected at most 16,777,216; restore"):
        read_json(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DamagedError, match=r"a\.json: not a regular file; restore"):
        read_json(path)


@pytest.mark.parametrize(
    "item", [b'"ab",', b"1000,", b"1e5,", b'"a\xc3\xa9\xf0\x9f\x98\x80",', b'["a/b/c/00000001","xy",3],\n']
)
def test_memory_stays_in_proportion_to_the_file(item):
    data = b"[" + item * (4_000_000 // len(item)) + b"0]"
    with PeakMemory() as memory:
        parse_json(data)
    assert memory.num_bytes < 16 * len(data) + 2**24
