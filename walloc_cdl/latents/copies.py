"""Second copies of all files of a data set except its shards, in `copy/`: `cdl repair` restores files from them.

They take as much space as the originals: the codec, and about 100 bytes of the ledger per sample, where a sample's
codes take 12 kB. Shards are not copied, since they can be encoded again.

Why whole copies: error-correcting codes over the ledger would take less space, but need a format and a decoder of
their own; a copy can also be restored by hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from walloc_cdl.errors import DamagedError
from walloc_cdl.fields import REMEDY
from walloc_cdl.files import make_folder, open_atomic, open_existing, remove_file, write_atomic
from walloc_cdl.latents.manifest import COPY_FOLDER, MANIFEST_NAME, PROVENANCE_NAME, FileEntry, Manifest
from walloc_cdl.latents.manifest_file import manifest_bytes

_CHUNK_BYTES = 1 << 20


def copy_path(name: str) -> str:
    """Return the relative path of the copy of a file of the data set."""
    return f"{COPY_FOLDER}/{name}"


def write_copies(folder: Path, manifest: Manifest) -> None:
    """Copy all files in `folder` except shards, and write the copy of `manifest`, which need not be in `folder` yet.

    Raises `DamagedError` for a file that differs from its entry in the manifest.
    """
    for name, entry in manifest.files.items():
        copy_listed(folder / name, folder / copy_path(name), entry)
    if (folder / PROVENANCE_NAME).is_file():
        with open_existing(folder / PROVENANCE_NAME) as file:
            write_with_parents(folder, copy_path(PROVENANCE_NAME), file.read())
    else:
        remove_file(folder / copy_path(PROVENANCE_NAME))
    write_with_parents(folder, copy_path(MANIFEST_NAME), manifest_bytes(manifest))


def copy_listed(source: Path, target: Path, entry: FileEntry) -> None:
    """Copy a file that a manifest lists.

    Raises `DamagedError`, and writes nothing, if the file differs from its entry.
    """
    make_folder(target.parent)
    digest, num_bytes = hashlib.sha256(), 0
    try:
        with open_existing(source) as original, open_atomic(target) as copy:
            for chunk in _chunks(original, source):
                copy.write(chunk)
                digest.update(chunk)
                num_bytes += len(chunk)
            if (num_bytes, digest.hexdigest()) != (entry.num_bytes, entry.sha256):
                raise DamagedError(
                    f"{source}: {num_bytes} bytes of SHA-256 {digest.hexdigest()[:12]}…, expected {entry.num_bytes} of "
                    f"{entry.sha256[:12]}…; {REMEDY}"
                )
    except FileNotFoundError as error:
        raise DamagedError(f"{source}: missing, though the manifest lists it; {REMEDY}") from error


def _chunks(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the rest of a file. A failed read names the file here, since `open_atomic` would name its own."""
    try:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
    except OSError as error:
        error.filename = str(path)
        raise


def write_with_parents(folder: Path, name: str, data: bytes) -> None:
    """Write a file at a relative path in `folder`, and create its parent folders."""
    make_folder((folder / name).parent)
    write_atomic(folder / name, data)
