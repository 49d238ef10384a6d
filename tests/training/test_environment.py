"""The commit in a record is that of the code that ran, whatever the working directory was."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from walloc_cdl.training import environment

IDENTITY = ("-c", "user.name=x", "-c", "user.email=x@x.x", "-c", "commit.gpgsign=false")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *IDENTITY, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A repository with one of the packages, and its commit."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "walloc_cdl", folder / "walloc_cdl", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "notes.md").write_text("a")
    git(tmp_path, "init", "-q", "checkout")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "all")
    return folder, git(folder, "rev-parse", "HEAD")


def commit_from(code: Path, directory: Path) -> str:
    """The commit that the code in `code` reports if it is run in `directory`."""
    script = f"import sys; sys.path.insert(0, {str(code)!r})\nfrom walloc_cdl.training import source_commit\n"
    done = subprocess.run(
        [sys.executable, "-c", script + "print(source_commit())"], cwd=directory, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_commit_of_a_checkout_is_independent_of_the_working_directory(checkout, tmp_path):
    folder, commit = checkout
    elsewhere = tmp_path / "elsewhere"
    git(tmp_path, "init", "-q", "elsewhere")
    assert commit_from(folder, elsewhere) == commit
    (folder / "notes.md").write_text("b")
    assert commit_from(folder, elsewhere) == commit
    with (folder / "walloc_cdl/spec.py").open("a") as file:
        file.write("# changed\n")
    assert commit_from(folder, elsewhere) == commit + "+"


def test_an_environment_inside_another_repository_has_no_commit(checkout, tmp_path):
    folder, _ = checkout
    project = tmp_path / "project"
    git(tmp_path, "init", "-q", "project")
    (project / "thesis.tex").write_text("x")
    git(project, "add", ".")
    git(project, "commit", "-qm", "thesis")
    shutil.copytree(folder / "walloc_cdl", project / "venv/walloc_cdl")
    assert commit_from(project / "venv", project) == "None"


def test_commit_of_a_package_installed_from_a_repository(monkeypatch):
    class Installed:
        def read_text(self, name):
            assert name == "direct_url.json"
            return '{"url": "https://x", "vcs_info": {"vcs": "git", "commit_id": "abc"}}'

    monkeypatch.setattr(environment, "distribution", lambda name: Installed())
    assert environment._installed_commit() == "abc"
