"""A codec's two files in a folder."""

from __future__ import annotations

import os
from pathlib import Path

from walloc_cdl.errors import CallError
from walloc_cdl.files import foreign_names, remove_temporaries, write_atomic

FILE_NAMES = ("config.json", "model.safetensors")


def read_codec_files(folder: str | os.PathLike[str]) -> dict[str, bytes]:
    """The contents of both files; `CallError` when one of them is not there."""
    path = Path(folder)
    for name in FILE_NAMES:
        if not (path / name).is_file():
            raise CallError(f"{path} is no codec: it has no {name}; name a folder made by `cdl codec fit`")
    return {name: (path / name).read_bytes() for name in FILE_NAMES}


def write_codec_files(folder: str | os.PathLike[str], files: dict[str, bytes]) -> None:
    """Write both, each in one step; `CallError` when the folder holds something else than a codec."""
    path = Path(folder)
    require_codec_folder(path)
    path.mkdir(parents=True, exist_ok=True)
    remove_temporaries(path)
    for name, data in files.items():
        write_atomic(path / name, data)


def require_codec_folder(path: Path) -> None:
    """Raise `CallError` unless a codec may be written to `path`: it is absent, empty, or holds a codec."""
    if path.exists() and not path.is_dir():
        raise CallError(f"{path} is a file; name a folder for the codec")
    if foreign := foreign_names(path, set(FILE_NAMES)):
        raise CallError(f"{path} holds something else ({foreign[0]}); name a new folder for the codec")
