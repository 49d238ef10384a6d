"""`push_run`: uploads a finished run to the Hugging Face Hub in one commit, with a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from classifiers.hub.card import CARD_NAME, model_card
from classifiers.hub.pull_run import OPTIONAL_FILES, REQUIRED_FILES
from classifiers.runs.load import load_classifier, load_record
from datasets_prep.hub.repository import hub_errors, require_repo_id
from walloc_cdl import retries
from walloc_cdl.confinement import require_no_links
from walloc_cdl.errors import CallError
from walloc_cdl.retries import Deadline
from walloc_cdl.training import RunFolder

REPO_TYPE = "model"


def push_run(
    folder: Path | str, repo_id: str, *, private: bool = False, revision: str | None = None, token: str | None = None
) -> str:
    """Upload the finished run in `folder` to OWNER/NAME, which is created if necessary; returns the URL of the commit.

    It has the configuration, the record, the weights, the codec and the figures of each class; the card is the
    folder's README.md, or else the repository's, or else one made from the record. `from_pretrained` loads it.

    Raises `CallError` for a folder without a finished run or with links in it, for a repository that holds anything
    else, and for missing rights; `DamagedError` for weights that have changed; `JobError` if the Hub cannot be reached.
    """
    require_repo_id(repo_id)
    run = RunFolder(folder)
    record = load_record(run)
    require_no_links(run.path)  # a file of the run could be any file of this machine
    config = load_classifier(run.path).config
    names = [name for name in (*REQUIRED_FILES, *OPTIONAL_FILES) if (run.path / name).is_file()]
    has_codec = any(name.startswith("codec/") for name in names)
    if (run.path / CARD_NAME).is_file():
        names.append(CARD_NAME)
    with hub_errors(repo_id, "model"):
        import huggingface_hub

        api = huggingface_hub.HfApi(token=token)
        remote = Deadline(retries.LISTING_S).call(lambda: _open(api, repo_id, private, revision))
        known = {".gitattributes", CARD_NAME, *REQUIRED_FILES, *OPTIONAL_FILES}
        if foreign := sorted(remote - known):
            raise CallError(f"{repo_id} holds other files ({foreign[0]}); give a new repository, or remove it there")
        operations: list[Any] = [
            huggingface_hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(run.path / name))
            for name in names
        ]
        if CARD_NAME not in names and CARD_NAME not in remote:
            card = model_card(repo_id, config, record, has_codec=has_codec)
            operations.append(huggingface_hub.CommitOperationAdd(path_in_repo=CARD_NAME, path_or_fileobj=card))
        stale = sorted(remote & {*OPTIONAL_FILES} - {*names})
        operations += [huggingface_hub.CommitOperationDelete(path_in_repo=name) for name in stale]
        num_bytes = sum((run.path / name).stat().st_size for name in names)
        commit = Deadline(retries.LISTING_S + retries.transfer_s(num_bytes)).call(
            lambda: api.create_commit(
                repo_id,
                operations,
                commit_message=f"Run of {config.name}",
                repo_type=REPO_TYPE,
                revision=revision,
            )
        )
    return commit.commit_url


def _open(api: Any, repo_id: str, private: bool, revision: str | None) -> set[str]:
    """Create the repository and the branch if necessary, and return the paths of its files."""
    api.create_repo(repo_id, repo_type=REPO_TYPE, private=private or None, exist_ok=True)
    if revision is not None:
        api.create_branch(repo_id, branch=revision, repo_type=REPO_TYPE, exist_ok=True)
    tree = api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type=REPO_TYPE)
    return {entry.path for entry in tree if hasattr(entry, "size")}
