"""Loads single samples of Python data sets: whatever a data set's own code raises for one costs that sample only."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from PIL import UnidentifiedImageError

from datasets_prep.samples.stored import (
    BadSignalError,
    ReadFailure,
    UnreadableError,
    UnusableSample,
    failure_reason,
    read_failure,
    sample_error,
)
from walloc_cdl.errors import CallError, one_line

Result = TypeVar("Result")

_NETWORK_ERRORS = {"ConnectionError", "ConnectError", "Timeout", "TimeoutError", "TimeoutException"}
"""Names of the classes by which Python, requests and httpx tell that the network failed."""

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")
_PATH = re.compile(r"(?:[A-Za-z]:)?[\\/][^\s'\"<>]*[\\/][^\s'\"<>]*")


def attempt(load: Callable[[], Result]) -> Result | UnusableSample:
    """Return what `load` returns for one sample, or why the sample cannot be used."""
    try:
        return load()
    except MemoryError:
        raise
    except Exception as error:  # of any type: the code is the user's
        return UnusableSample.from_error(_loading_error(error))


def _loading_error(error: Exception) -> BadSignalError:
    if isinstance(error, CallError):
        return BadSignalError(one_line(error))
    if isinstance(error, UnidentifiedImageError):
        return BadSignalError("not an image of a known format")
    if read_failure(error) is not None:
        return sample_error(error)
    reason = failure_reason(error) if isinstance(error, OSError) else _loading_reason(error)
    reason = _PATH.sub("…", _ADDRESS.sub("0x…", reason))  # a reason is the same on every machine, in every run
    if _NETWORK_ERRORS & {each.__name__ for each in type(error).__mro__} or type(error).__name__ == "URLError":
        return UnreadableError(reason, ReadFailure.FAILED)
    return BadSignalError(reason)


def _loading_reason(error: Exception) -> str:
    return f"cannot be loaded: {one_line(error, with_class=True)}"
