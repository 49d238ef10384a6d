"""Tells records of unfinished changes that this user has written from those in a folder that comes from elsewhere.

Such a record says which files the next command removes or replaces. A digest shows that it is undamaged, but anybody
can compute one. So a record also has an authentication code under a random key that never leaves the user's own folder
of program state: whoever makes up a folder cannot make up the code. A folder that was moved or renamed keeps its valid
code; on another machine with another home folder, or for another user, the code is not known, and the user is asked.
"""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from walloc_cdl.canonical import canonical_json
from walloc_cdl.file_locks import open_locked

CODE_NAME = "hmac_sha256"
KEY_BYTES = 32


def with_code(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields (plain JSON values) of a record with their authentication code.

    The code is null if the user's folder of program state cannot be written.
    """
    try:
        return {**fields, CODE_NAME: _code(fields, _key())}
    except OSError:
        return {**fields, CODE_NAME: None}


def is_own(fields: dict[str, Any]) -> bool:
    """Return whether this user has written a record with these fields."""
    code = fields.get(CODE_NAME)
    if not isinstance(code, str) or not code.isascii():
        return False
    with suppress(OSError):
        others = {name: value for name, value in fields.items() if name != CODE_NAME}
        return hmac.compare_digest(code, _code(others, _key()))
    return False


def _code(fields: dict[str, Any], key: bytes) -> str:
    return hmac.digest(key, canonical_json(fields), "sha256").hex()


def _key() -> bytes:
    """Return the user's key; it is drawn at the first call."""
    path = _state_folder() / "key"
    if (key := _read(path)) is not None:
        return key
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open_locked(path.with_name("key.lock"), wait=True):
        if (key := _read(path)) is not None:
            return key
        key, temporary = secrets.token_bytes(KEY_BYTES), path.with_name("key.tmp")
        with suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        return key


def _read(path: Path) -> bytes | None:
    with suppress(FileNotFoundError):
        key = path.read_bytes()
        return key if len(key) == KEY_BYTES else None
    return None


def _state_folder() -> Path:
    """Return `walloc-cdl` in the user's folder for the state of programs, after the XDG base directories."""
    base = os.environ.get("XDG_STATE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(base) if base else Path.home() / ".local" / "state") / "walloc-cdl"
