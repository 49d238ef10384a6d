"""The documents' commands exist with the options that they name, and their links lead somewhere."""

import re
import shlex

import pytest

from tests.support.paths import ROOT
from walloc_cdl.cli.command_tree import build_command_tree

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def shell_commands(text):
    """The `cdl …` lines of a document's shell blocks, continuations joined."""
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["cdl"]:
                yield words


COMMANDS = [(path.name, words) for path in DOCUMENTS for words in shell_commands(path.read_text())]


def test_the_documents_show_commands():
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize(("document", "words"), COMMANDS, ids=lambda part: part if isinstance(part, str) else part[1])
def test_every_documented_command_and_option_exists(document, words):
    command, rest = build_command_tree(pytest.fail), words[1:]
    while hasattr(command, "commands"):
        assert rest[0] in command.commands, f"{document}: no command {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    for option in (word for word in rest if word.startswith("--")):
        assert option in known, f"{document}: `{' '.join(words)}` has no option {option}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path):
    prose = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_files_that_contributors_are_sent_to_exist():
    named = re.findall(r"`((?:[\w.-]+/)+[\w-]+\.[a-z]+)`", (ROOT / "CONTRIBUTING.md").read_text())
    files = [name for name in named if not re.search(r"NAME|^(out|build|dist)/", name)]
    assert len(files) > 10
    for name in files:
        assert (ROOT / name).is_file() or list(ROOT.glob(f"*/{name}")), f"CONTRIBUTING.md names {name}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_no_place_on_a_machine(path):
    assert not re.search(r"(?<![\w.])/(work|home|root|tmp|mnt)/", path.read_text())
