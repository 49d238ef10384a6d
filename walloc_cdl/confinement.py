"""Confines changes to a folder: nothing below it is reached through a link.

A folder that comes from elsewhere, such as an unpacked or downloaded one, may hold symbolic links that lead to any
place, and a name in it may become such a link at any moment. So while a command works in a folder, `walloc_cdl.files`
and `walloc_cdl.file_locks` reach everything below it from the folder's descriptor, one part of the path after the
other, without following links. The path of the folder itself is the user's own and may have links. Where the system
has no operations relative to a descriptor, as on Windows, each part is examined before it is used.

The folders in use belong to the process rather than to an argument of every function, since what they protect are
ordinary paths, which pass through many hands (writers of shards, records, threads) between a command and its files.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from walloc_cdl.errors import CallError

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
HAS_DESCRIPTORS = bool(NO_FOLLOW) and {os.open, os.mkdir, os.unlink, os.rmdir, os.rename, os.stat} <= os.supports_dir_fd
"""Whether the system has operations relative to the descriptor of a folder."""

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)


@dataclass(eq=False)
class _Root:
    """A folder in use, and how many blocks use it."""

    path: Path
    descriptor: int | None
    num_users: int = 0


_ROOTS: dict[Path, _Root] = {}
_GUARD = threading.RLock()


@contextmanager
def confined(folder: Path | str) -> Iterator[None]:
    """While the block runs, no function of `walloc_cdl.files` follows a link below `folder`, in any thread.

    The folder is created if necessary. Its own path may have links, except below another folder in use.
    """
    path = Path(folder).absolute()
    with _root_of(path) as outer:
        if outer is not None:
            with _descended(outer, path, create=True):
                pass
            yield
            return
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(path))
    os.makedirs(path, exist_ok=True)
    with _GUARD:
        root = _ROOTS.get(path)
        if root is None:
            root = _ROOTS[path] = _Root(path, os.open(path, _FOLDER) if HAS_DESCRIPTORS else None)
        root.num_users += 1
    try:
        yield
    finally:
        _release(root)


@contextmanager
def opened_parent(path: Path | str, *, create: bool = False) -> Iterator[tuple[str, int | None]]:
    """Yield a name and a `dir_fd` for a call of `os` that concerns the entry `path` of a folder.

    Outside of folders in use, these are the path itself and None. `create` makes missing parent folders. Raises
    `CallError` if a part of the way to the entry is a link. Errors of the system in the block name the whole path.
    """
    path = Path(path)
    with _root_of(path) as root:
        if root is None or path.absolute() == root.path:
            if create:
                os.makedirs(path.parent, exist_ok=True)
            yield os.fspath(path), None
            return
        with _descended(root, path.absolute().parent, create=create) as descriptor:
            name = os.fspath(path) if descriptor is None else path.name
            with errors_of(path, name):
                yield name, descriptor


def is_confined(path: Path | str) -> bool:
    """Return whether a path lies below a folder in use."""
    with _root_of(Path(path)) as root:
        return root is not None and Path(path).absolute() != root.path


@contextmanager
def errors_of(path: Path, name: str | None = None) -> Iterator[None]:
    """Let errors of the system in the block that name no file, or only `name`, name `path`."""
    try:
        yield
    except OSError as error:
        if error.filename in (None, name):
            error.filename, error.filename2 = os.fspath(path), None
        raise


@contextmanager
def opened_folder(path: Path | str, *, create: bool = False) -> Iterator[int | None]:
    """Yield the descriptor of a folder, or None where the system has none; `create` makes it and missing parents.

    Raises `CallError` if a part of its path below a folder in use is a link.
    """
    path = Path(path)
    with _root_of(path) as root:
        if root is not None:
            with _descended(root, path.absolute(), create=create) as descriptor:
                yield descriptor
            return
        if create:
            os.makedirs(path, exist_ok=True)
        descriptor = os.open(path, _FOLDER) if HAS_DESCRIPTORS else None
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)


def find_links(folder: Path | str) -> Iterator[str]:
    """Yield the relative paths of all links below a folder, which need not exist; links are not followed.

    Those of a folder come in order, and before those of its subfolders.
    """
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(os.path.join(folder, below)) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):  # removed meanwhile, or not there at all
            continue
        for entry in found:
            if entry.is_symlink() or (os.name == "nt" and is_link(entry.path)):
                yield f"{below}{entry.name}"
        waiting += [f"{below}{entry.name}/" for entry in reversed(found) if entry.is_dir(follow_symlinks=False)]


def require_no_links(folder: Path | str) -> None:
    """Raise `CallError`, naming the first link, if there are links below a folder, which need not exist."""
    links = list(find_links(folder))
    if links:
        raise link_error(Path(folder, links[0]), num_others=len(links) - 1)


def is_link(path: Path | str, folder: int | None = None) -> bool:
    """Return whether `path`, relative to a descriptor if given, is a symbolic link or, on Windows, a junction."""
    try:
        status = os.stat(path, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    tags = [getattr(stat, name, None) for name in ("IO_REPARSE_TAG_SYMLINK", "IO_REPARSE_TAG_MOUNT_POINT")]
    return stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", 0) in filter(None, tags)


def link_error(path: Path, num_others: int = 0) -> CallError:
    """Return the error for a link in a folder that is worked in."""
    others = f", the first of {num_others + 1} here" if num_others else ""
    return CallError(f"{path} is {describe_link(path)}{others}; links in this folder are not followed: {REMEDY}")


REMEDY = "remove the link, or put what it leads to in its place"


def describe_link(path: Path) -> str:
    """Return what a link is for a message, such as `a link to '/home'`."""
    try:
        return f"a link to {os.readlink(path)!r}"
    except OSError:
        return "a link"


@contextmanager
def _root_of(path: Path) -> Iterator[_Root | None]:
    """Yield the outermost folder in use that holds, or is, `path`; None if there is none."""
    root = None
    with _GUARD:
        if _ROOTS:
            absolute = path.absolute()
            root = next((_ROOTS[each] for each in (*reversed(absolute.parents), absolute) if each in _ROOTS), None)
        if root is not None:
            root.num_users += 1
    try:
        yield root
    finally:
        if root is not None:
            _release(root)


def _release(root: _Root) -> None:
    with _GUARD:
        root.num_users -= 1
        if not root.num_users:
            del _ROOTS[root.path]
            if root.descriptor is not None:
                os.close(root.descriptor)


@contextmanager
def _descended(root: _Root, folder: Path, *, create: bool) -> Iterator[int | None]:
    """Yield the descriptor of a folder that is, or lies below, the root; None where the system has none."""
    parts = folder.relative_to(root.path).parts
    if ".." in parts:
        raise CallError(f"{folder} leads out of {root.path}; give a path inside it")
    current, where = root.descriptor, root.path
    try:
        for part in parts:
            where = where / part
            deeper = _opened_part(current, part, where, create=create)
            if current not in (None, root.descriptor):
                os.close(current)
            current = deeper
        yield current
    finally:
        if current not in (None, root.descriptor):
            os.close(current)


def _opened_part(folder: int | None, part: str, where: Path, *, create: bool) -> int | None:
    """Return the descriptor of the subfolder `part` of a folder; `where` is its path."""
    name = part if folder is not None else os.fspath(where)
    try:
        if create:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=folder)
        if folder is None:
            if is_link(name):
                raise link_error(where)
            return None
        return os.open(name, _FOLDER | NO_FOLLOW, dir_fd=folder)
    except OSError as error:
        if is_link(name, folder):
            raise link_error(where) from error
        error.filename = os.fspath(where)
        raise
