"""Converts errors of the system to `JobError` with one line that says how to continue.

This is the only place that does so, around the whole of `prepare`. A failed write does not name its path, so
`walloc_cdl.files.open_atomic` adds it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from walloc_cdl.errors import JobError, system_reason

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "make it writable, or give another folder"),
    errno.ENOTDIR: "give another folder",
    errno.EMFILE: "raise the limit of open files",
}


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Convert an `OSError` of the job that writes `folder` to a `JobError` of one line with path, cause and remedy."""
    try:
        yield
    except OSError as error:
        cause = system_reason(error)
        path = Path(error.filename) if isinstance(error.filename, (str, Path)) else folder
        if path.name == str(path):  # a bare file name, as errors from `shutil.rmtree` have it
            path = folder / path
        remedy = _REMEDIES.get(error.errno or 0)
        advice = "run the same command again to continue"
        raise JobError(f"{path}: {cause}; {f'{remedy}, then {advice}' if remedy else advice}") from error
