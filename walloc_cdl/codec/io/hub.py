"""Loading of codecs by the name `hub:OWNER/REPO[/FILE]`."""

from __future__ import annotations

import re

from walloc_cdl.codec.base import Codec
from walloc_cdl.codec.codec_files import FILE_NAMES
from walloc_cdl.codec.hub_mixin import MissingFileError, download
from walloc_cdl.codec.io.folder import codec_from_files
from walloc_cdl.codec.io.published import load_published
from walloc_cdl.errors import CallError
from walloc_cdl.fields import is_plain_path

HUB_PREFIX = "hub:"
_REPOSITORY = re.compile(r"([^/]+/[^/]+)(?:/(.+))?")


def load_from_hub(name: str) -> Codec:
    """Return the codec `hub:OWNER/REPO`, whose files are at the top of the repository, or `hub:OWNER/REPO/FILE`.

    FILE is a published checkpoint, FILE.pth with FILE.json, or a folder with the two files of a codec. Raises
    `CallError` for a name that does not exist, and `JobError` if the Hub cannot be reached.
    """
    match = _REPOSITORY.fullmatch(name.removeprefix(HUB_PREFIX))
    if not match or not is_plain_path(name.removeprefix(HUB_PREFIX)):
        raise CallError(f"codec {name!r}; expected hub:OWNER/REPO or hub:OWNER/REPO/FILE")
    repo_id, file = match[1], (match[2] or "").removesuffix(".pth")
    if not file:
        return _load_native(repo_id, "", name)
    try:
        config = download(repo_id, f"{file}.json")
    except MissingFileError:
        try:
            return _load_native(repo_id, f"{file}/", name)
        except MissingFileError as error:
            raise CallError(
                f"{repo_id} has neither {file}.json, of a published checkpoint, nor {file}/{FILE_NAMES[0]}; "
                f"https://huggingface.co/{repo_id}/tree/main shows its files"
            ) from error
    return load_published(download(repo_id, f"{file}.pth"), config)


def _load_native(repo_id: str, folder: str, name: str) -> Codec:
    files = {file: download(repo_id, folder + file).read_bytes() for file in FILE_NAMES}
    return codec_from_files(files, origin=name)
