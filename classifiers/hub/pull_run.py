"""`from_pretrained`: the classifier of a run in a folder, or in a repository of the Hugging Face Hub."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from classifiers.models.classifier import LatentClassifier
from classifiers.runs.load import load_classifier
from walloc_cdl.addresses import local_path
from walloc_cdl.codec.hub_mixin import MissingFileError, download
from walloc_cdl.errors import CallError

HUB_PREFIX = "hub:"
REQUIRED_FILES = ("config.json", "record.json", "model.safetensors")
OPTIONAL_FILES = ("codec/config.json", "codec/model.safetensors", "classes.csv", "recipe.toml")
"""What a run may have besides; not needed to load its classifier."""

_REPO_ID = re.compile(r"[A-Za-z0-9_.\-]+/[A-Za-z0-9_.\-]+")


def from_pretrained(name: str | Path, **options: Any) -> LatentClassifier:
    """Load the classifier of a finished run, in eval mode, on the CPU.

    `name` is the folder of a run, or `OWNER/NAME` or `hub:OWNER/NAME`, a repository of the Hub that `push_run` wrote.
    `options` are those of `huggingface_hub.hf_hub_download`, such as `revision`, `token`, `cache_dir`,
    `local_files_only` and `force_download`; a folder ignores them. Files are downloaded once and cached, and code that
    somebody else wrote is never executed.

    Raises `CallError` for what is no finished run, `JobError` if the Hub cannot be reached and the cache lacks a file,
    and `DamagedError` if a file has changed.
    """
    return load_classifier(run_folder(name, **options))


def run_folder(name: str | Path, **options: Any) -> Path:
    """Returns the folder of the run `name`, which is downloaded to the cache if it is on the Hub.

    See `from_pretrained`, which describes the arguments and the errors.
    """
    text = str(name)
    folder = local_path(name)
    if folder.exists() or not (text.startswith(HUB_PREFIX) or (isinstance(name, str) and _REPO_ID.fullmatch(text))):
        return folder
    repo_id = text.removeprefix(HUB_PREFIX)
    if not _REPO_ID.fullmatch(repo_id):
        raise CallError(f"{text!r} is no run; expected a folder, or hub:OWNER/NAME")
    try:
        config = download(repo_id, REQUIRED_FILES[0], **options)
        # The others of the same commit, whose name is that of the cache's folder.
        pinned = {**options, "revision": config.parent.name}
        for file in REQUIRED_FILES[1:]:
            download(repo_id, file, **pinned)
    except MissingFileError as error:
        raise CallError(f"{repo_id} is not a run that `cdl model push` wrote: {error}") from error
    with suppress(MissingFileError):
        for file in OPTIONAL_FILES:
            download(repo_id, file, **pinned)
    return config.parent
