"""Recipes: the settings of a job as a TOML file, read with checks and written with the help as comments."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from walloc_cdl.errors import CallError, DamagedError, one_line, system_reason, unknown_name
from walloc_cdl.schema import require_type
from walloc_cdl.settings.setting import settings_of

MAX_RECIPE_BYTES = 1 << 20
"""Larger files are no recipes."""


def load_recipe(path: Path, known: Collection[str]) -> dict[str, Any]:
    """Return the fields of a recipe, a TOML file, by name; `known` are the names that it may have.

    Raises `CallError` for a file that cannot be read, that is no TOML, or that has other fields.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_RECIPE_BYTES + 1)
    except OSError as error:
        raise CallError(f"{path}: {system_reason(error)}; name a recipe, a TOML file") from error
    if len(data) > MAX_RECIPE_BYTES:
        raise CallError(f"{path} has more than {MAX_RECIPE_BYTES:,} bytes; name a recipe, a TOML file")
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # pyrefly: ignore[missing-import]  # not installed for newer versions of Python
    try:
        fields = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CallError(f"{path} is not TOML ({one_line(error)}); write it as NAME = VALUE, a line each") from error
    for name in fields:
        if name not in known:
            raise unknown_name(f"field in {path}:", name, known, f"known are {', '.join(known)}")
    return fields


def typed_values(cls: type, fields: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return the fields of a recipe that the dataclass `cls` has, each as its annotation says.

    Raises `CallError`, naming `origin`, for a value of another type.
    """
    hints, settings = get_type_hints(cls, include_extras=True), settings_of(cls)
    values = {}
    for name in (each.name for each in dataclasses.fields(cls) if each.name in fields):
        value = fields[name]
        if name in settings and settings[name].zero_is_none and value == 0:
            values[name] = None
            continue
        try:
            value = require_type(hints[name], value, f"{origin}, {name}", remedy="change it")
        except DamagedError as error:
            raise CallError(str(error)) from error
        is_float = hints[name] is float or float in get_args(hints[name])
        values[name] = float(value) if is_float and isinstance(value, int) else value
    return values


def format_recipe(fields: Mapping[str, Any], helps: Mapping[str, str], *, heading: Iterable[str] = ()) -> str:
    """Return the text of a recipe: `fields` by name, each after its help if there is one, below lines of comment."""
    lines = [f"# {line}" for line in heading]
    for name, value in fields.items():
        lines += ["", f"# {helps[name]}"] if name in helps else [""]
        lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines).lstrip("\n") + "\n"


def _toml(value: Any) -> str:
    """Return a value in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
