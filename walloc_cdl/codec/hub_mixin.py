"""Codecs on the Hugging Face Hub: `save_pretrained`, `from_pretrained`, `push_to_hub`, and downloads.

The methods have the names and arguments of `huggingface_hub.ModelHubMixin`, which is not used itself: it wraps
constructors and writes a `config.json` of its own, without the version of our format. huggingface_hub is imported when
it is needed; a local folder works without it.
"""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, TypeVar

from walloc_cdl import retries
from walloc_cdl.addresses import local_path
from walloc_cdl.codec.codec_files import FILE_NAMES, read_codec_files, write_codec_files
from walloc_cdl.errors import CallError, JobError, one_line
from walloc_cdl.retries import Deadline

Self = TypeVar("Self", bound="HubMixin")


class HubMixin(ABC):
    """Mixin that saves, loads and pushes codecs; a subclass implements `files` and `from_files`."""

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """Return `config.json` and `model.safetensors`."""

    @classmethod
    @abstractmethod
    def from_files(cls: type[Self], files: dict[str, bytes], *, origin: str) -> Self:
        """Return the codec of these files, the inverse of `files`."""

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write the codec to a folder; with `push_to_hub` also push it and return the URL of the commit.

        Raises `CallError` if the folder holds other files.
        """
        write_codec_files(save_directory, self.files())
        if push_to_hub:
            return self.push_to_hub(repo_id or Path(save_directory).name, **push_to_hub_kwargs)
        return None

    @classmethod
    def from_pretrained(
        cls: type[Self],
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
    ) -> Self:
        """Return the codec of this class in a local folder or in a repository of the Hub.

        Raises `CallError` if there is none or it has another class, `JobError` if it cannot be downloaded, and
        `DamagedError` for invalid files. `load_codec("hub:…")` loads codecs of any class.
        """
        folder = local_path(pretrained_model_name_or_path)
        if folder.is_dir():
            return cls.from_files(read_codec_files(folder), origin=str(folder))
        repo_id = os.fspath(pretrained_model_name_or_path)
        options = {
            "force_download": force_download,
            "token": token,
            "cache_dir": cache_dir,
            "local_files_only": local_files_only,
            "revision": revision,
        }
        files = {name: download(repo_id, name, **options).read_bytes() for name in FILE_NAMES}
        return cls.from_files(files, origin=f"hub:{repo_id}")

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Push codec",
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
    ) -> str:
        """Upload the codec to a repository, which is created if necessary; return the URL of the commit."""
        import huggingface_hub

        api = huggingface_hub.HfApi(token=token)
        repo_id = api.create_repo(repo_id=repo_id, private=private, exist_ok=True).repo_id
        with tempfile.TemporaryDirectory() as folder:
            write_codec_files(folder, self.files())
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message,
                revision=branch,
                create_pr=create_pr,
            )
        return commit.commit_url


class MissingFileError(CallError):
    """A repository of the Hub lacks a file."""


def download(repo_id: str, file_name: str, **options: Any) -> Path:
    """Return the path of a file of a repository, from the cache or the Hub; `options` go to `hf_hub_download`.

    Raises `MissingFileError` or `CallError` if there is no such file or repository, and `JobError` if the Hub cannot be
    reached and the cache lacks the file.
    """
    from huggingface_hub import errors as hub
    from huggingface_hub import hf_hub_download

    try:
        return Path(Deadline(retries.LISTING_S).call(lambda: hf_hub_download(repo_id, file_name, **options)))
    except hub.HFValidationError as error:
        raise CallError(
            f"{repo_id!r} is not a repository name; expected hub:OWNER/REPO or hub:OWNER/REPO/FILE"
        ) from error
    except hub.RepositoryNotFoundError as error:
        raise CallError(
            f"the Hub has no repository {repo_id} that you may read; check its name, or log in with `hf auth login`"
        ) from error
    except hub.LocalEntryNotFoundError as error:  # before its parent EntryNotFoundError: the Hub was not reached
        raise _unreachable(repo_id, file_name) from error
    except (hub.EntryNotFoundError, hub.RevisionNotFoundError) as error:
        raise MissingFileError(
            f"{repo_id} has no {file_name}; https://huggingface.co/{repo_id}/tree/main shows its files"
        ) from error
    except TimeoutError as error:
        raise JobError(
            f"{file_name} of {repo_id} cannot be fetched ({one_line(error)}); check the network and run the same "
            "command again, which continues where it stopped"
        ) from error
    except OSError as error:  # network errors; last, since the Hub's own errors derive from it
        raise _unreachable(repo_id, file_name) from error


def _unreachable(repo_id: str, file_name: str) -> JobError:
    return JobError(
        f"{file_name} of {repo_id} is not in the cache and the Hub cannot be reached; connect to the network, or "
        f"download the files elsewhere (https://huggingface.co/{repo_id}) and pass their path"
    )
