"""Names of splits and their synonyms, and the two readings of folders and files of which only some have such names.

The synonyms are those of Hugging Face `datasets`; they are recognized without regard to case. A name that is followed
by a number or by a word such as "set" (`train2017`, `Training Set`) resembles a split, but a class may have such a
name, too. Where names leave it open whether they mean splits, guessing would give classes called `train` and `test`,
or train on test samples; so the caller has to choose, with the option `splits` of the source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from walloc_cdl.errors import CallError, abbreviate

_SYNONYMS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Maps each split to its names, in the order in which splits are prepared."""

_SPLITS = {word: split for split, words in _SYNONYMS.items() for word in words}
_RESEMBLING = re.compile(rf"({'|'.join(_SPLITS)})(?:[-_. ]*(?:set|split|data|images|[0-9]))+", re.IGNORECASE)
_COLUMN_VALUES = frozenset({"train", "validation", "val", "valid", "test"})
_MAX_LENGTH = 64


def known_split(name: str) -> str | None:
    """Return the split that a folder or file of this name means; None for any other name.

    >>> known_split("Train"), known_split("dev"), known_split("train2017")
    ('train', 'validation', None)
    """
    return _SPLITS.get(name.lower())


def resembled_split(name: str) -> str | None:
    """Return the split that a name means or resembles; None for any other name.

    >>> resembled_split("dev"), resembled_split("Test_Set"), resembled_split("train2017"), resembled_split("trains")
    ('validation', 'test', 'train', None)
    """
    found = _RESEMBLING.fullmatch(name)
    return known_split(found[1] if found else name)


def named_split(name: str, where: str) -> str:
    """Return the split for a name that is to be read as one: the split that it resembles, or else the name itself.

    Raises `CallError` for a name that no split may have; `where` is the beginning of the message.
    """
    return resembled_split(name) or _require_split_name(name, name, where)


def split_in_column(text: str, where: str) -> str:
    """Return the split for a value in a table's column of splits; raises `CallError` as `named_split` does.

    Only `val`, `valid` and case are translated. Any other name, such as `dev`, is a split of this name, and data sets
    that have such splits can be extended only if it stays so.
    """
    name = text.strip()
    known = name.lower() in _COLUMN_VALUES
    return _SPLITS[name.lower()] if known else _require_split_name(name, text, where)


def in_order(splits: Iterable[str]) -> list[str]:
    """Sort splits into the order in which they are prepared: train, validation, test, then all others by name."""
    order = {split: number for number, split in enumerate(_SYNONYMS)}
    return sorted(splits, key=lambda split: (order.get(split, len(order)), split))


def two_readings(where: str, names: Sequence[str], otherwise: str) -> CallError:
    """Return the error for names that leave it open whether they are splits.

    `where`: the beginning of the message, such as `'photos' has folders`; `otherwise`: what they are if they are not
    splits.
    """
    similar = [name for name in names if resembled_split(name)]
    others = [name for name in names if not resembled_split(name)]
    beside = f" beside others ({abbreviate(others)})" if others else ""
    splits = in_order({resembled_split(name) or name for name in names})
    return CallError(
        f"{where} named like splits ({abbreviate(similar)}){beside}; append ?splits=1 to the source if these are the "
        f"splits {abbreviate(splits)}, or ?splits=0 if they are {otherwise}"
    )


def _require_split_name(name: str, text: str, where: str) -> str:
    allowed = name.isascii() and name.replace("_", "").replace("-", "").isalnum() and name[0] not in "-"
    if not allowed or len(name) > _MAX_LENGTH:
        raise CallError(f"{where}: split {text[:60]!r}; expected a name of letters, digits, _ and -")
    return name
