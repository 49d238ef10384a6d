"""Files and folders are changed by `walloc_cdl.files` alone, which follows no links below a folder in use."""

import ast

from tests.support.paths import ROOT

PACKAGES = ("walloc_cdl", "datasets_prep", "classifiers", "experiments")
METHODS = {
    *("unlink", "rmdir", "mkdir", "rename", "touch", "symlink_to", "hardlink_to", "write_text", "write_bytes"),
    *("rmtree", "makedirs", "removedirs", "renames", "copyfile", "copytree", "copy2", "move"),
}
"""Methods of paths, and functions of `os` and `shutil`, that change the file system."""
OF_OS = {"replace", "remove", "link", "symlink", "truncate"}
"""Functions of `os` whose names other objects have, too."""

OWNERS = {
    "walloc_cdl/confinement.py",
    "walloc_cdl/files.py",
    "datasets_prep/folders/own_records.py",  # the user's key, in the user's own folder
}
OTHERS = {
    "walloc_cdl/cli/console.py": {"write_text"},  # --json
    "experiments/gpu_speed.py": {"write_text"},  # --json
    "experiments/opening_speed.py": {"write_text"},  # --json, and a file of the kernel
    "experiments/torch_loader_speed.py": {"write_text"},  # --json
    "walloc_cdl/compat/walloc.py": {"open w"},  # the path that the package's function is given
    "walloc_cdl/data/remote.py": {"makedirs"},  # on the other side
    "datasets_prep/upkeep/derive.py": {"rename"},  # of keys
    "experiments/benchmarks/synthetic.py": {"mkdir"},  # in a new temporary folder
    "experiments/benchmarks/reading.py": {"mkdir"},  # in a new temporary folder
    "experiments/prefix_loader_speed.py": {"mkdir"},  # in a new temporary folder
}
"""What is written where the user says, as one file, elsewhere, or in folders that nobody else has."""


def test_only_their_owner_changes_files():
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name not in OWNERS and (calls := changes(ast.parse(path.read_text("utf-8")))):
                found[name] = calls
    assert found == OTHERS


def changes(tree: ast.Module) -> set[str]:
    """Return the names of functions called in a module that change the file system, and modes of files it opens."""
    calls = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Attribute):
            of_os = isinstance(function.value, ast.Name) and function.value.id == "os"
            if function.attr in METHODS or (of_os and function.attr in OF_OS):
                calls.add(function.attr)
        if (isinstance(function, ast.Name) and function.id == "open") or (
            isinstance(function, ast.Attribute) and function.attr == "open"
        ):
            modes = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            calls |= {
                f"open {mode}" for mode in modes if mode.strip("btU+") in ("w", "a", "x") or mode in ("r+", "r+b")
            }
    return calls
