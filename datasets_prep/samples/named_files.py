"""The rules for paths and URLs that a data set names in its rows.

A data set from elsewhere is untrusted: it must not read files of this machine into a data set, nor reveal which files
exist. So relative paths may not leave the folder of the data set, absolute paths need `?absolute=1`, and URLs must have
one of `REMOTE_SCHEMES`.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasets_prep.samples.stored import FileSlice, Stored, UnusableSample
from walloc_cdl.addresses import is_chained, is_url, url_scheme
from walloc_cdl.errors import CallError

REMOTE_SCHEMES = frozenset({"http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "oss", "memory"})


@dataclass(frozen=True)
class NamedFiles:
    """The files that a data set may name, and where they are."""

    folder: str | None
    """Path or URL of the folder of the data set, to which paths are relative; None if it has no folder."""
    absolute: bool = False
    """Whether absolute paths are allowed."""
    public: bool = False
    """See `FileSlice.public`."""
    noun: str = "data set"
    """What the data set is called in messages: `table`."""
    roots: tuple[str, ...] = ()
    """Further folders, absolute, in which absolute paths are allowed, such as the cache of a package."""

    def require(self, name: str, where: Callable[[], str]) -> None:
        """Raise `CallError` for a path or URL that may not be named; `where` describes its place."""
        problem = self._problem(name)
        if problem is not None:
            raise CallError(f"{where()}: {problem[0]}")

    def stored(self, name: str) -> Stored:
        """Return the sample that a row names; an `UnusableSample` if it may not be named."""
        problem = self._problem(name)
        if problem is not None:
            return UnusableSample(problem[1])
        if is_url(name):
            return FileSlice(name, public=self.public)
        if self.folder is not None and is_url(self.folder) and not os.path.isabs(name):
            return FileSlice(f"{self.folder}/{name}", public=self.public)
        return Path(self.folder or "") / name

    def _problem(self, name: str) -> tuple[str, str] | None:
        """Return a message and the reason for the ledger; None for a name that is allowed."""
        if not name or "\0" in name:
            return f"path {name[:60]!r}; expected the path or URL of an image file", "no path of a file"
        shown = repr(name[:100])
        if is_chained(name) or (is_url(name) and url_scheme(name) not in REMOTE_SCHEMES):
            schemes = ", ".join(sorted(REMOTE_SCHEMES))
            return f"URL {shown}; expected one of the schemes {schemes}", "a URL of another scheme"
        if is_url(name):
            return None
        if os.path.isabs(name):
            if self.absolute or self._is_below_roots(name):
                return None
            remedy = f"give ?absolute=1 if the {self.noun} may name any file"
            return f"absolute path {shown}; {remedy}", "an absolute path, which needs absolute=1"
        if posixpath.normpath(name.replace(os.sep, "/")).split("/")[0] == "..":
            remedy = f"move the {self.noun} or the files"
            return (
                f"path {shown} leaves the {self.noun}'s folder; {remedy}",
                "a path that leaves its folder",
            )
        if self.folder is None:
            remedy = "give a local copy of the data set"
            return f"relative path {shown} of a data set without a folder; {remedy}", "a relative path without a folder"
        return None

    def _is_below_roots(self, name: str) -> bool:
        path = os.path.normpath(name)
        return any(os.path.commonpath((path, root)) == root for root in self.roots)
