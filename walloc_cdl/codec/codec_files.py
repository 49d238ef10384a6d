"""Reading and writing the two files of a codec in a folder."""

from __future__ import annotations

import os
from pathlib import Path

from walloc_cdl.addresses import local_path
from walloc_cdl.confinement import confined
from walloc_cdl.errors import CallError
from walloc_cdl.files import foreign_names, remove_temporaries, write_atomic

FILE_NAMES = ("config.json", "model.safetensors")


def read_codec_files(folder: str | os.PathLike[str]) -> dict[str, bytes]:
    """Return the contents of both files by name; raise `CallError` if one of them is missing."""
    path = local_path(folder)
    for name in FILE_NAMES:
        if not (path / name).is_file():
            raise CallError(f"{path} is not a codec: it has no {name}; give a folder written by `cdl codec fit`")
    return {name: (path / name).read_bytes() for name in FILE_NAMES}


def write_codec_files(folder: str | os.PathLike[str], files: dict[str, bytes]) -> None:
    """Write both files, each atomically; raise `CallError` if the folder holds other files."""
    path = local_path(folder)
    require_codec_folder(path)
    with confined(path):
        remove_temporaries(path)
        for name, data in files.items():
            write_atomic(path / name, data)


def require_codec_folder(path: Path) -> None:
    """Raise `CallError` unless a codec may be written to `path`, which must be missing, empty, or hold a codec."""
    if path.exists() and not path.is_dir():
        raise CallError(f"{path} is a file; give a folder for the codec")
    if foreign := foreign_names(path, set(FILE_NAMES)):
        raise CallError(f"{path} holds other files ({foreign[0]}); give a new folder for the codec")
