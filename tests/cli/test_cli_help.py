"""Every command has a help text, which is shown without heavy imports."""

import re
import subprocess
import sys

import pytest

from datasets_prep.sources import OPENERS
from walloc_cdl.cli.command_tree import build_command_tree

HEAVY = ("torch", "timm", "datasets", "sklearn", "matplotlib", "skimage", "pyarrow", "PIL")


def command_paths() -> list[list[str]]:
    root = build_command_tree(pytest.fail)
    paths = [[]]
    for name, command in root.commands.items():
        paths.append([name])
        paths += [[name, inner] for inner in getattr(command, "commands", {})]
    return paths


HELP = {
    "": "prepare inspect verify preview export push pull probe train evaluate predict compare crossval demo report "
    "repair drop merge split cut codec model weights bench",
    "codec": "list info fit import eval encode decode inspect",
    "model": "export push",
    "weights": "convert",
    "bench": "encode unpack load prepare train archive",
}
"""All commands, in the order in which the help shows them."""


def test_the_commands_are_those_of_the_contract():
    root = build_command_tree(pytest.fail)
    groups = {"": root} | {name: command for name, command in root.commands.items() if hasattr(command, "commands")}
    assert {name: " ".join(group.commands) for name, group in groups.items()} == HELP


@pytest.mark.parametrize("path", command_paths(), ids=lambda path: " ".join(path) or "cdl")
def test_help_of_every_command(cdl, path):
    answer = cdl(*path, "--help")
    assert answer.code == 0
    assert answer.out.startswith("Usage: " + " ".join(["cdl", *path]))
    assert not re.search(r"(?<![\]}])\.\.\.", answer.out)  # the summary of each command fits into its line
    assert answer.err == ""


def test_the_help_names_every_kind_of_source(cdl):
    text = cdl("prepare", "--help").out
    assert all(f"{scheme}:" in text for scheme in [*OPENERS, "sample"])


def test_help_imports_no_heavy_package():
    program = (
        "import sys\n"
        "from walloc_cdl.cli.app import run\n"
        f"codes = [run([*path, '--help']) for path in {command_paths()!r}]\n"
        "assert codes == [0] * len(codes), codes\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("path", [[], ["codec"], ["bench"]], ids=lambda path: " ".join(path) or "cdl")
def test_without_a_command_its_help_is_shown_as_an_error(cdl, path):
    answer = cdl(*path)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == cdl(*path, "--help").out


def test_version(cdl):
    from walloc_cdl import __version__

    assert cdl("--version").out == f"{__version__}\n"
