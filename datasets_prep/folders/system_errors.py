"""What the system refuses a job, in one line that says how to go on."""

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
    """Turn an `OSError` of the job that writes `folder` into a `JobError` of one line with path, cause and remedy."""
    try:
        yield
    except OSError as error:
        cause = system_reason(error)
        where = Path(error.filename) if isinstance(error.filename, (str, Path)) else folder
        if where.name == str(where):  # what empties a folder names its files so
            where = folder / where
        remedy = _REMEDIES.get(error.errno or 0)
        advice = f"{remedy}, then run the same again to go on" if remedy else "run the same again to go on"
        raise JobError(f"{where}: {cause}; {advice}") from error
