"""Where the samples of a source lie as a whole, so that its vanishing is not taken for a thousand bad samples."""

from __future__ import annotations

import os
from dataclasses import dataclass

from datasets_prep.samples.locations import as_os_errors, file_system
from walloc_cdl.addresses import is_url


@dataclass(frozen=True)
class Origin:
    """Folders or files without which none of a source's samples are there. Small and picklable: any machine can ask."""

    noun: str = "folder"
    """What each path is: a `folder`, or a kind of file, as `tar`."""
    paths: tuple[str, ...] = ()

    def absence(self) -> str | None:
        """What has gone, in words; None while all is there. Single files at URLs count as there."""
        for path in self.paths:
            if self.noun == "folder" and is_url(path):
                gone = _remote_absence(path)
            elif is_url(path) or (os.path.isdir(path) if self.noun == "folder" else os.path.isfile(path)):
                gone = None
            else:
                gone = f"the {self.noun} {path!r}"
            if gone is not None:
                return gone
        return None


def _remote_absence(url: str) -> str | None:
    system, root = file_system(url)
    try:
        with as_os_errors():
            return None if system.isdir(root) else f"the folder {url!r}"
    except OSError:
        return f"the server of {url!r}"
