"""Dataclasses as the schema of untrusted JSON: `from_json` checks every field against its annotation.

An annotation is `int`, `float`, `str`, `bool`, `None`, `Any`, `list`, `tuple`, `dict` with texts as names, a dataclass,
or a union of these. `Annotated` with a `Check` restricts the values of the first four. Type
variables stand for any value.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from walloc_cdl.errors import CallError, DamagedError, abbreviate
from walloc_cdl.fields import MAX_INTEGER, REMEDY, damaged, is_plain_path

T = TypeVar("T")

MAY_BE_OMITTED = "may_be_omitted"
"""Key in the metadata of a dataclass's field that an object may lack."""

_KINDS: dict[Any, tuple[type | tuple[type, ...], str]] = {
    int: (int, "an integer"),
    float: ((int, float), "a number"),
    str: (str, "a string"),
    bool: (bool, "true or false"),
    list: (list, "an array"),
    tuple: (list, "an array"),
    dict: (dict, "an object"),
    types.NoneType: (types.NoneType, "null"),
}


@dataclass(frozen=True)
class Check:
    """A restriction of the values of a field, to be given with `Annotated`."""

    expected: str
    """What the value must be, for messages."""
    holds: Callable[[Any], bool]


Count = Annotated[int, Check("an integer of at least 0", lambda value: value >= 0)]
Sha256 = Annotated[
    str, Check("a SHA-256 of 64 hexadecimal digits", lambda value: re.fullmatch("[0-9a-f]{64}", value) is not None)
]
FileName = Annotated[
    str, Check("a plain relative file name inside the folder", lambda value: is_plain_path(value) and "/" not in value)
]


def from_json(cls: type[T], value: Any, where: str, *, remedy: str = REMEDY) -> T:
    """Return an untrusted JSON object as the dataclass `cls`: the inverse of `dataclasses.asdict`.

    `where` names the object in messages, which end in `remedy`. Raises `DamagedError` unless the object has exactly the
    fields of `cls`, each of its type; integers must fit int64. A `CallError` of the constructor becomes one, too. A
    field with the metadata `MAY_BE_OMITTED` may be missing, and then has its default.
    """
    return _Reader(remedy).read(cls, value, where)


def require_type(hint: Any, value: Any, where: str, *, remedy: str = REMEDY) -> Any:
    """Return `value` if the annotation `hint` describes it, as `from_json` does for a field; `DamagedError` if not."""
    return _Reader(remedy).read(hint, value, where)


@dataclass(frozen=True)
class _Reader:
    remedy: str

    def read(self, hint: Any, value: Any, where: str) -> Any:
        """Return `value` as the annotation `hint` describes it."""
        kind, arguments = get_origin(hint) or hint, get_args(hint)
        if hint is Any or isinstance(hint, TypeVar):
            return value
        if kind is Annotated:
            checks = arguments[1:]
            if not _is_of(_json_kind(hint), value) or not all(check.holds(value) for check in checks):
                raise damaged(where, value, checks[-1].expected, self.remedy)
            return value
        if kind in (Union, types.UnionType):
            if any(isinstance(argument, TypeVar) for argument in arguments):
                return value
            return self._union(arguments, value, where)
        if dataclasses.is_dataclass(kind):
            return self._object(kind, value, where)
        if not _is_of(kind, value):
            raise damaged(where, value, _KINDS[kind][1], self.remedy)
        if kind is dict and arguments:
            return {name: self.read(arguments[1], item, f"{where}, {name[:60]}") for name, item in value.items()}
        if kind is tuple and Ellipsis not in arguments and len(value) != len(arguments):
            raise damaged(where, value, f"an array of {len(arguments)}", self.remedy)
        if kind in (list, tuple) and arguments:
            if arguments[0] in (int, float, str) and all(_is_of(arguments[0], item) for item in value):
                return kind(value)  # long arrays of numbers
            return kind(self.read(arguments[0], item, f"{where}[{number}]") for number, item in enumerate(value))
        return value

    def _union(self, arguments: tuple[Any, ...], value: Any, where: str) -> Any:
        """Read a value as the first member of a union that its JSON type fits."""
        for argument in arguments:
            if _is_of(_json_kind(argument), value):
                return self.read(argument, value, where)
        raise damaged(where, value, " or ".join(map(_expected, arguments)), self.remedy)

    def _object(self, cls: type, value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise damaged(where, value, "an object", self.remedy)
        hints = _hints(cls)
        required = {field.name for field in dataclasses.fields(cls) if MAY_BE_OMITTED not in field.metadata}
        if wrong := sorted((required - value.keys()) | (value.keys() - hints.keys())):
            shown = abbreviate([repr(name[:60]) for name in wrong])
            raise DamagedError(f"{where}: missing or unknown fields [{shown}]; {self.remedy}")
        fields = {name: self.read(hints[name], value[name], f"{where}, {name}") for name in hints if name in value}
        try:
            return cls(**fields)
        except CallError as error:
            raise DamagedError(f"{where}: {error}; {self.remedy}") from error


@lru_cache(maxsize=64)
def _hints(cls: type) -> dict[str, Any]:
    """Return the annotations of a dataclass by field."""
    known = get_type_hints(cls, include_extras=True)
    return {field.name: known[field.name] for field in dataclasses.fields(cls)}


def _json_kind(hint: Any) -> Any:
    """Return the key of `_KINDS` for an annotation."""
    kind = get_origin(hint) or hint
    if kind is Annotated:
        return _json_kind(get_args(hint)[0])
    return dict if dataclasses.is_dataclass(kind) else kind


def _expected(hint: Any) -> str:
    return get_args(hint)[-1].expected if get_origin(hint) is Annotated else _KINDS[_json_kind(hint)][1]


def _is_of(kind: Any, value: Any) -> bool:
    if isinstance(value, bool) and kind is not bool:  # a bool is an int
        return False
    return isinstance(value, _KINDS[kind][0]) and not (kind is int and not -MAX_INTEGER - 1 <= value <= MAX_INTEGER)
