"""Folders at a URL (s3://, gs://, memory://, …), listed with fsspec, with the layouts of local folders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from datasets_prep.samples.locations import RemoteFileSystem, as_os_errors, file_system, last_part
from datasets_prep.samples.origin import Origin
from datasets_prep.samples.stored import FileSlice
from datasets_prep.sources.core.source import Source
from datasets_prep.sources.folders.catalog import Catalog, FileKind, FoundFile, display_name, split_folders
from walloc_cdl.addresses import WEB_SCHEMES, url_scheme
from walloc_cdl.errors import CallError


class RemoteFolder(Source):
    """The files below a URL, in the order of their paths. The process that decodes a file fetches it.

    Raises `CallError` for a URL that cannot be listed, and in the cases of `FileFolder`.
    """

    def __init__(self, url: str, file_kind: FileKind, *, splits: bool | None = None) -> None:
        """`splits`: see `FileFolder`."""
        if url_scheme(url) in WEB_SCHEMES:
            raise CallError(
                f"{url!r} cannot be listed: http servers cannot list files; name the files in a table, csv:PATH"
            )
        system, root = file_system(url)
        self._url = url.rstrip("/")
        try:
            with as_os_errors():
                if not system.isdir(root):
                    raise CallError(
                        f"{file_kind.name} folder {url!r} does not exist; give the URL of a folder of {file_kind.name}s"
                    )
                entries = [(_name(entry), entry["type"] == "directory") for entry in _listed(system, root)]

                def has_samples(name: bytes) -> bool:
                    below = f"{root.rstrip('/')}/{name.decode()}"
                    return any(file.has_suffix(file_kind.suffixes) for file in _walk(system, below, (name,)))

                catalog = Catalog(file_kind, split_folders(url, entries, has_samples, file_kind, splits))
                for file in _walk(system, root, ()):
                    catalog.add(file)
        except OSError as error:
            raise CallError(f"{url!r} cannot be listed: {error}; check the URL and your access to it") from error
        super().__init__(last_part(root) or url_scheme(url), catalog.listing(url))
        self._paths = catalog.paths()

    def read(self, split: str, index: int) -> FileSlice:
        """Return the URL of the sample's file."""
        return FileSlice(f"{self._url}/{self._paths[split].raw(index).decode()}")

    @property
    def origin(self) -> Origin:
        """See `Source.origin`."""
        return Origin("folder", (self._url,))


def _walk(system: RemoteFileSystem, folder: str, parts: tuple[bytes, ...]) -> Iterator[FoundFile]:
    """Yield every file that is not hidden, in the order of the paths, with one folder's names in memory at a time."""
    for entry in _listed(system, folder):
        name = _name(entry)
        if not name or name.startswith(b"."):
            continue
        if entry["type"] == "directory":
            yield from _walk(system, entry["name"], (*parts, name))
        else:
            yield FoundFile((*parts, name), int(entry.get("size") or 0), regular=entry["type"] == "file")


def _listed(system: RemoteFileSystem, folder: str) -> list[dict[str, Any]]:
    """Return a folder's entries; object stores also list the folder itself if an empty object marks it."""
    own = folder.rstrip("/")
    entries = [entry for entry in system.ls(folder) if entry["name"].rstrip("/") != own]
    return sorted(entries, key=lambda entry: display_name(_name(entry)))


def _name(entry: dict[str, Any]) -> bytes:
    return last_part(entry["name"]).encode("utf-8", "surrogatepass")
