"""Reading of untrusted `torch.save` files: every declared size is compared with the file before tensors are read."""

from __future__ import annotations

import errno
import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from walloc_cdl.codec.io.pickle_parser import CONFIG_CLASSES, ParsedConfig, ParsedPickle, TensorView, parse_pickle
from walloc_cdl.errors import DamagedError, one_line

MAX_PICKLE_BYTES = 16 << 20
MAX_ENTRIES = 65_536
STATE = "model_state_dict"


@dataclass(frozen=True)
class TorchCheckpoint:
    """The weights in a file, and the configuration that older files contain."""

    state: dict[str, Tensor]
    config: dict[str, Any] | None


class PickledConfig:
    """Stand-in for the class of a pickled configuration object, with attributes but no behavior."""


def read_torch_checkpoint(path: Path) -> TorchCheckpoint:
    """Return weights and configuration of a checkpoint: a state dict, or a dictionary with `model_state_dict`.

    No code in the file is executed. Raises `DamagedError`, in one line, for a file that is not such a checkpoint,
    refers to foreign code, is truncated, or declares more than it holds; `OSError` if the system cannot read the file.
    """
    with _translated_errors(path), path.open("rb") as file:
        return _read(file, path)


def _read(file: BinaryIO, path: Path) -> TorchCheckpoint:
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DamagedError(
            f"{path}: not a checkpoint of torch, or a truncated one ({one_line(error, 120)}); expected a zip "
            "archive as written by torch.save since torch 1.6; get the file again"
        ) from error
    with archive:
        try:
            records = _records(archive, path)
            parsed = parse_pickle(records["data.pkl"], str(path))
            _check_sizes(parsed, records, path)
            state, config = _state_and_config(parsed.root, path)
            loaded = _load(records)
        except (DamagedError, OSError):
            raise
        except Exception as error:  # torch and zipfile raise many types of errors for a damaged file
            raise DamagedError(f"{path}: cannot be read ({one_line(error, 120)}); get the file again") from error
    tensors = loaded[STATE] if state is not parsed.root else loaded
    return TorchCheckpoint({name: tensors[name].detach() for name in state}, config)


@contextmanager
def _translated_errors(path: Path) -> Iterator[None]:
    """Convert the error of a seek before the beginning, which a damaged file causes, and add the path to others."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise DamagedError(f"{path}: an offset before the beginning of the file; get the file again") from error
        error.filename = str(path)  # failed reads do not name the file
        raise


def _records(archive: zipfile.ZipFile, path: Path) -> dict[str, bytes]:
    """Return the contents by name within the archive's folder; raise `DamagedError` if they may exceed the file."""
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES or len({entry.filename for entry in entries}) != len(entries):
        raise DamagedError(
            f"{path}: {len(entries)} entries, which are too many or have equal names; get the file again"
        )
    total = sum(entry.file_size for entry in entries)
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise DamagedError(
            f"{path}: compressed or encrypted entries, which torch.save never writes; get the file again"
        )
    if total > path.stat().st_size:
        raise DamagedError(f"{path}: declares {total:,} bytes in a file of {path.stat().st_size:,}; get the file again")
    records = {}
    for entry in entries:
        name = entry.filename.partition("/")[2]
        if name == "data.pkl" and entry.file_size > MAX_PICKLE_BYTES:
            raise DamagedError(
                f"{path}: a pickle of {entry.file_size:,} bytes; weights need at most {MAX_PICKLE_BYTES:,}"
            )
        records[name] = archive.read(entry)
    if "data.pkl" not in records:
        raise DamagedError(f"{path}: a zip archive without data.pkl, so not a checkpoint of torch; give a .pth file")
    if records.get("byteorder", b"little") != b"little":
        raise DamagedError(f"{path}: written on a big-endian machine; save it again on a little-endian one")
    return records


def _check_sizes(parsed: ParsedPickle, records: dict[str, bytes], path: Path) -> None:
    """Raise `DamagedError` unless storages match their records and hold all elements of their tensors."""
    for storage in parsed.storages.values():
        declared, found = storage.num_elements * storage.element_bytes, len(records.get(f"data/{storage.key}", b""))
        if declared != found:
            raise DamagedError(f"{path}: storage {storage.key[:40]!r} declares {declared:,} bytes and has {found:,}")
    for tensor in parsed.tensors:
        if tensor.end > tensor.storage.num_elements or tensor.num_elements > tensor.storage.num_elements:
            raise DamagedError(
                f"{path}: a tensor of {tensor.num_elements:,} elements in a storage of "
                f"{tensor.storage.num_elements:,}; get the file again"
            )
    referenced = sum(tensor.num_elements for tensor in parsed.tensors)
    stored = sum(storage.num_elements for storage in parsed.storages.values())
    if referenced > stored:
        raise DamagedError(
            f"{path}: tensors with {referenced:,} elements in total share {stored:,} stored ones; save them separately"
        )


def _state_and_config(root: Any, path: Path) -> tuple[dict[str, TensorView], dict[str, Any] | None]:
    """Return the state dict of a parsed pickle, and the attributes of its configuration."""
    state = root.get(STATE, root) if isinstance(root, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(name, str) for name in state):
        raise DamagedError(f"{path}: holds no weights; expected a dictionary with {STATE}, or a state dict itself")
    if foreign := [name for name, value in state.items() if not isinstance(value, TensorView)]:
        raise DamagedError(f"{path}: {foreign[0][:80]!r} is not a tensor; expected {STATE}, or a state dict itself")
    config = root.get("config") if state is not root else None
    if isinstance(config, ParsedConfig):
        return state, config.attributes
    return state, config if isinstance(config, dict) else None


def _load(records: dict[str, bytes]) -> Any:
    """Return what `torch.load` reads from the checked records.

    They are packed into a new archive, so that torch reads exactly what was checked: a crafted zip file may appear
    different to two readers.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            archive.writestr(f"archive/{name}", data)
    buffer.seek(0)
    stand_ins = [(PickledConfig, name) for name in CONFIG_CLASSES]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(buffer, map_location="cpu", weights_only=True)
