"""A repository on the Hub: its name, and what its errors mean to whoever called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from walloc_cdl.errors import CallError, CdlError, JobError, one_line

REPO_TYPE = "dataset"

_REPO_ID = re.compile(r"[A-Za-z0-9_.\-]+/[A-Za-z0-9_.\-]+")


def require_repo_id(name: str) -> str:
    """The name if it has the form OWNER/NAME; `CallError` otherwise."""
    if not _REPO_ID.fullmatch(name):
        raise CallError(f"{name!r} is no repository's name; expected OWNER/NAME")
    return name


def list_files(api: Any, repo_id: str, revision: str | None) -> dict[str, Any]:
    """What the Hub says of each file (`size`, and `lfs.sha256` of a large one) by path; `api` is an `HfApi`."""
    tree = api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type=REPO_TYPE)
    return {entry.path: entry for entry in tree if hasattr(entry, "size")}  # folders have none


@contextmanager
def hub_errors(repo_id: str, noun: str = "data set") -> Iterator[None]:
    """Turn what huggingface_hub raises into one line: `CallError` for names and rights, `JobError` for the network.

    `noun` is what the repository holds: a data set or a model.
    """
    try:
        yield
    except CdlError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:  # uploads wrap what went wrong
            if (told := _told(cause, repo_id, noun)) is not None:
                raise told from error
            cause = cause.__cause__
        raise


def _told(error: BaseException, repo_id: str, noun: str) -> CdlError | None:
    """What an error of the Hub or of the network means; None for any other."""
    from huggingface_hub import errors as hub

    page = f"https://huggingface.co/{'datasets/' if noun == 'data set' else ''}{repo_id}"
    if isinstance(error, hub.HFValidationError):
        return CallError(f"{repo_id!r} is no repository's name; expected OWNER/NAME")
    if isinstance(error, hub.GatedRepoError):  # before its parent RepositoryNotFoundError
        return CallError(f"{noun} {repo_id} is gated: ask for access at {page}, then log in with `hf auth login`")
    if isinstance(error, hub.RepositoryNotFoundError):
        return CallError(
            f"the Hub has no {noun} {repo_id} that you may see; check its name, or log in with `hf auth login`"
        )
    if isinstance(error, hub.RevisionNotFoundError):
        return CallError(f"{repo_id} has no such revision; {page}/tree/main lists its branches")
    if isinstance(error, hub.LocalTokenNotFoundError):
        return CallError(f"writing to {repo_id} needs a token; log in with `hf auth login`, or set HF_TOKEN")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return CallError(
            f"the Hub refuses access to {repo_id} ({status}); log in with `hf auth login` as somebody with the right "
            "to it, or set HF_TOKEN"
        )
    # Errors of the HTTP client are no OSErrors; which client it is depends on the version of huggingface_hub. One with
    # a file's name is of the disk.
    if type(error).__module__.startswith(("httpx", "httpcore", "requests")) or (
        isinstance(error, OSError) and error.filename is None
    ):
        reason = one_line(error, with_class=True)
        return JobError(
            f"the Hub cannot be reached for {repo_id} ({reason}); check the network and run the same command "
            "again, which continues where it stopped"
        )
    return None
