"""Folds of a data set for cross-validation, from the names of its samples."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from walloc_cdl.errors import CallError

MAX_FOLDS = 100


def folds_of_keys(keys: Sequence[str], pattern: str) -> tuple[np.ndarray, list[str]]:
    r"""Return the fold of each sample, int64 (N,), and the folds' names, sorted.

    The fold is what the one group of the regular expression finds in the sample's key: `/(\d)-` for ESC-10, whose files
    are called `CLASS/FOLD-….ogg`. Raises `CallError` unless there are 2 to 100 folds and each sample has one.

    >>> folds_of_keys(["dog/1-a.ogg", "dog/2-b.ogg", "rain/1-c.ogg"], r"/(\d)-")
    (array([0, 1, 0]), ['1', '2'])
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise CallError(f"folds {pattern!r} are no regular expression ({error}); give one such as '/(\\d)-'") from error
    if expression.groups != 1:
        raise CallError(f"folds {pattern!r} have {expression.groups} groups; give one pair of parentheses: '/(\\d)-'")
    names = []
    for key in keys:
        found = expression.search(key)
        if found is None or not found[1]:
            raise CallError(
                f"folds {pattern!r} find nothing in {key!r}; give an expression that finds a fold in every key"
            )
        names.append(found[1])
    distinct = sorted(set(names))
    if not 2 <= len(distinct) <= MAX_FOLDS:
        raise CallError(
            f"folds {pattern!r} find {len(distinct)} folds, such as {distinct[0]!r}; expected 2 to {MAX_FOLDS}: give "
            "an expression that finds the same text in all samples of a fold"
        )
    return np.array([distinct.index(name) for name in names], np.int64), distinct
