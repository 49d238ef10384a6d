"""The location of a whole source, so that a source that is gone is not taken for many unusable samples."""

from __future__ import annotations

import os
from dataclasses import dataclass

from datasets_prep.samples.locations import as_os_errors, file_system
from walloc_cdl.addresses import is_url


@dataclass(frozen=True)
class Origin:
    """The folders or files that hold all of a source's samples. It is picklable, so that any machine can check them."""

    path_type: str = "folder"
    """The type of each path: `folder`, or a type of file, such as `tar`."""
    paths: tuple[str, ...] = ()

    def absence(self) -> str | None:
        """Return a description of the first missing path, or None. Single files at URLs are taken to be present."""
        for path in self.paths:
            if self.path_type == "folder" and is_url(path):
                missing = _remote_absence(path)
            elif is_url(path) or (os.path.isdir(path) if self.path_type == "folder" else os.path.isfile(path)):
                missing = None
            else:
                missing = f"the {self.path_type} {path!r}"
            if missing is not None:
                return missing
        return None


def _remote_absence(url: str) -> str | None:
    system, root = file_system(url)
    try:
        with as_os_errors():
            return None if system.isdir(root) else f"the folder {url!r}"
    except OSError:
        return f"the server of {url!r}"
