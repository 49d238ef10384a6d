"""Dataclasses as schemas: what fits is read, and anything else is named with its place and value."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest

from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.schema import Count, FileName, Sha256, from_json, require_type


@dataclass(frozen=True)
class Part:
    name: FileName
    sha256: Sha256 | None
    sizes: tuple[int, int]


@dataclass(frozen=True)
class Whole:
    count: Count
    rate: float
    parts: list[Part]
    by_name: dict[str, list[int]]
    rest: dict[str, Any]
    shape: tuple[int | None, ...] = ()
    is_odd: bool = False

    def __post_init__(self) -> None:
        if self.is_odd != bool(self.count % 2):
            raise CallError(f"{self.count} is not odd")


VALID: dict[str, Any] = {
    "count": 3,
    "rate": 2,
    "parts": [{"name": "a.txt", "sha256": "0" * 64, "sizes": [1, 2]}, {"name": "b", "sha256": None, "sizes": [0, -1]}],
    "by_name": {"é": [1, 2]},
    "rest": {"a": [None, {"b": 1.5}]},
    "shape": [1, None],
    "is_odd": True,
}


def test_what_asdict_gives_is_read():
    whole = from_json(Whole, VALID, "it")
    assert whole.parts[0] == Part("a.txt", "0" * 64, (1, 2))
    assert whole.shape == (1, None)
    assert from_json(Whole, {**dataclasses.asdict(whole), "shape": [1, None], "parts": VALID["parts"]}, "it") == whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": -1}, "it, count: found -1, expected an integer of at least 0; do so"),
        ({"count": True}, "it, count: found True, expected an integer of at least 0; do so"),
        ({"count": 2**63}, "it, count: found 9223372036854775808, expected an integer of at least 0; do so"),
        ({"rate": "1"}, "it, rate: found '1', expected a number; do so"),
        ({"rate": False}, "it, rate: found False, expected a number; do so"),
        ({"parts": {}}, "it, parts: found {}, expected an array; do so"),
        ({"parts": [3]}, "it, parts[0]: found 3, expected an object; do so"),
        ({"parts": [{"name": "b"}]}, "it, parts[0]: missing or unknown fields ['sha256', 'sizes']; do so"),
        ({"by_name": {"x": [1, 2.5]}}, "it, by_name, x[1]: found 2.5, expected an integer; do so"),
        ({"rest": []}, "it, rest: found [], expected an object; do so"),
        ({"shape": ["1"]}, "it, shape[0]: found '1', expected an integer or null; do so"),
        ({"is_odd": 1}, "it, is_odd: found 1, expected true or false; do so"),
        ({"is_odd": False}, "it: 3 is not odd; do so"),
        ({"more": 1}, "it: missing or unknown fields ['more']; do so"),
        ({"rate": "x" * 10**6}, f"it, rate: found '{'x' * 59}…, expected a number; do so"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(DamagedError) as caught:
        from_json(Whole, {**VALID, **changes}, "it", remedy="do so")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../a"}, "name: found '../a', expected a plain relative file name inside the folder"),
        ({"name": "a" * 300}, "expected a plain relative file name inside the folder"),
        ({"sha256": "0" * 63}, "expected a SHA-256 of 64 hexadecimal digits"),
        ({"sha256": 1}, "sha256: found 1, expected a SHA-256 of 64 hexadecimal digits or null"),
        ({"sizes": [1]}, "sizes: found [1], expected an array of 2"),
    ],
)
def test_restricted_values_are_checked(changes, message):
    with pytest.raises(DamagedError) as caught:
        from_json(Part, {**VALID["parts"][0], **changes}, "it")
    assert message in str(caught.value)


def test_single_values_are_checked():
    assert require_type(dict[str, Count], {"a": 1}, "it") == {"a": 1}
    with pytest.raises(DamagedError, match=r"it, a: found -1, expected an integer of at least 0; restore the folder"):
        require_type(dict[str, Count], {"a": -1}, "it")
