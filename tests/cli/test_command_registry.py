"""Commands that other packages declare are found, and an error in one does not affect the others."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

import pytest

from walloc_cdl.cli import registry
from walloc_cdl.cli.command_tree import build_command_tree
from walloc_cdl.cli.registry import ENTRY_POINTS, CommandTable


def hello(name: str = "you") -> None:
    """Greet."""
    print(f"hello, {name}")


def annotated_wrongly(value: int | str) -> None:
    """A function that typer cannot convert to a command."""


@pytest.fixture
def declare(monkeypatch):
    """Add an entry point whose value is `table` to those that are installed; without a table, to a missing module."""
    module, added = ModuleType("somebody"), []
    monkeypatch.setitem(sys.modules, "somebody", module)
    monkeypatch.setattr(registry, "entry_points", lambda group: [*entry_points(group=group), *added])

    def add(name: str, table: object = None) -> None:
        setattr(module, name, table)
        added.append(EntryPoint(name, f"{'nowhere' if table is None else 'somebody'}:{name}", ENTRY_POINTS))

    return add


def test_every_package_declares_its_commands():
    owners = {}
    for entry in entry_points(group=ENTRY_POINTS):
        table = entry.load()
        for words, function in table.commands.items():
            owners[words] = function.__module__.partition(".")[0]
            assert owners[words] == entry.name
    assert owners["codec fit"] == owners["prepare"] == "datasets_prep"
    assert owners["train"] == "classifiers"
    assert owners["codec eval"] == owners["bench archive"] == "experiments"
    assert not {"inspect", "verify", "codec list"} & owners.keys()  # walloc_cdl's own commands need no entry point


def test_commands_of_another_package_are_added_at_the_end(cdl, declare):
    table = CommandTable({"hello": hello, "codec hello": hello, "tools hello": hello}, {"tools": "Further tools."})
    declare("aaa", table)
    assert list(build_command_tree(pytest.fail).commands)[-3:] == ["bench", "tools", "hello"]
    for words in table.commands:
        assert cdl(*words.split(), "--name", "Ann").out == "hello, Ann\n"
    assert "hello    Greet." in cdl("codec", "--help").out
    assert cdl("tools").code == 2


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (
            None,
            "cdl: the entry point `mine = nowhere:mine` of walloc_cdl.commands is left out (ModuleNotFoundError: No "
            "module named 'nowhere'); update or uninstall the package that declares it\n",
        ),
        ({"hello": hello}, "is left out (it is of type dict; expected CommandTable); update or"),
        (CommandTable({"train": hello}), "cdl: `cdl train` of the entry point `mine = somebody:mine` of walloc_cdl.c"),
        (CommandTable({"train": hello}), "(it is declared by the entry point `classifiers = classifiers.cli.comm"),
        (CommandTable({"verify": hello}), "(it is declared by walloc_cdl already); update"),
        (CommandTable({"tools hello": hello}), "is left out (there is no group `tools`); update"),
        (CommandTable({"verify hello": hello}), "is left out (there is no group `verify`); update"),
        (CommandTable({"wrong": annotated_wrongly}), "cdl: `cdl wrong` of the entry point `mine = somebody:mine` of"),
    ],
)
def test_a_broken_entry_is_reported_and_the_others_work(cdl, declare, table, line):
    whole = cdl("--help").out
    declare("mine", table)
    answer = cdl("--help")
    assert (answer.code, answer.out) == (0, whole)
    assert line in answer.err
    assert answer.err.count("\n") == 1


def test_an_installation_without_entry_points_is_reported(cdl, monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    answer = cdl("train")
    assert answer.code == 2
    first, second = answer.err.splitlines()
    assert "install the package again" in first
    assert "No such command 'train'" in second
    assert cdl("codec", "list").code == 0
