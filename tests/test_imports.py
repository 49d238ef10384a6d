"""Which folder may import which, held against the code: imports in function bodies count, too."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = ("walloc_cdl", "datasets_prep", "classifiers", "experiments")
MAX_FILES = 18
"""Of one folder."""

BASE = (
    "version",
    "errors",
    "machine",
    "threads",
    "devices",
    "addresses",
    "retries",
    "canonical",
    "confinement",
    "files",
    "file_locks",
    "fields",
    "json_files",
    "schema",
    "spec",
)
"""Modules right below `walloc_cdl`, which everybody may import; each of them only those before it."""

# What each folder may import of ours besides itself and the base modules. Folders stand in the order of the data, so
# that no row names a folder that comes after it: there can be no circle.
CODEC = ("walloc_cdl.codec", "walloc_cdl.codec.families", "walloc_cdl.codec.fit", "walloc_cdl.codec.io")
PREPARED = ("datasets_prep.samples", "datasets_prep.decode", "datasets_prep.sources.core")
FLOORS: dict[str, tuple[str, ...]] = {
    "walloc_cdl.planes": (),
    "walloc_cdl.settings": (),
    "walloc_cdl.linear": (),
    "walloc_cdl.kernels": (),
    "walloc_cdl.kernels.cpu.simd": (),
    "walloc_cdl.kernels.cpu": ("walloc_cdl.kernels", "walloc_cdl.kernels.cpu.simd"),
    "walloc_cdl.kernels.gpu": ("walloc_cdl.kernels", "walloc_cdl.kernels.cpu"),
    "walloc_cdl.latents.archive": (),
    "walloc_cdl.latents": ("walloc_cdl.kernels.cpu",),
    "walloc_cdl.latents.checks": ("walloc_cdl.latents",),
    "walloc_cdl.codec": ("walloc_cdl.kernels", "walloc_cdl.kernels.cpu", "walloc_cdl.kernels.gpu"),
    "walloc_cdl.codec.families.networks": (),
    "walloc_cdl.codec.families": (
        "walloc_cdl.kernels",
        "walloc_cdl.kernels.cpu",
        "walloc_cdl.codec",
        "walloc_cdl.codec.families.networks",
    ),
    "walloc_cdl.codec.fit": ("walloc_cdl.kernels", "walloc_cdl.codec", "walloc_cdl.codec.families"),
    "walloc_cdl.codec.io": ("walloc_cdl.codec", "walloc_cdl.codec.families"),
    "walloc_cdl.compat": ("walloc_cdl.codec", "walloc_cdl.codec.families"),
    "walloc_cdl.data": (
        "walloc_cdl.kernels.cpu",
        "walloc_cdl.kernels.gpu",
        "walloc_cdl.latents",
        "walloc_cdl.codec",
        "walloc_cdl.codec.io",
    ),
    "walloc_cdl.augment": (),
    "walloc_cdl.transforms": ("walloc_cdl.kernels.gpu", "walloc_cdl.data", "walloc_cdl.augment"),
    "walloc_cdl.training": ("walloc_cdl.latents", "walloc_cdl.data"),
    "walloc_cdl.cli": ("walloc_cdl.latents", "walloc_cdl.codec", "walloc_cdl.codec.io"),
    "datasets_prep.samples": (),
    "datasets_prep.folders": ("walloc_cdl.latents",),
    "datasets_prep.decode": ("walloc_cdl.kernels.cpu", "datasets_prep.samples"),
    "datasets_prep.hub": ("walloc_cdl.latents", "walloc_cdl.data", "datasets_prep.folders"),
    "datasets_prep.sources.core": ("walloc_cdl.latents", "datasets_prep.samples", "datasets_prep.decode"),
    "datasets_prep.sources.hubs": ("walloc_cdl.latents", *PREPARED),
    "datasets_prep.sources.python": ("walloc_cdl.latents", *PREPARED),
    "datasets_prep.sources.folders": ("walloc_cdl.latents", *PREPARED, "datasets_prep.sources.hubs"),
    "datasets_prep.sources.archives": ("walloc_cdl.latents", *PREPARED, "datasets_prep.sources.folders"),
    "datasets_prep.sources.signals": ("walloc_cdl.latents", *PREPARED, "datasets_prep.sources.folders"),
    "datasets_prep.sources": (
        "walloc_cdl.latents",
        *(f"datasets_prep.sources.{name}" for name in ("core", "hubs", "python", "folders", "archives", "signals")),
    ),
    "datasets_prep.encode": ("walloc_cdl.kernels.cpu", "walloc_cdl.latents", "walloc_cdl.codec", *PREPARED),
    "datasets_prep.ledger": (
        "walloc_cdl.latents",
        "datasets_prep.samples",
        "datasets_prep.folders",
        "datasets_prep.sources.core",
    ),
    "datasets_prep.archives": (
        "walloc_cdl.latents",
        "walloc_cdl.latents.archive",
        *CODEC,
        "datasets_prep.samples",
        "datasets_prep.folders",
        "datasets_prep.decode",
        "datasets_prep.sources.folders",
        "datasets_prep.sources.signals",
        "datasets_prep.encode",
    ),
    "datasets_prep.job": (
        "walloc_cdl.latents",
        *CODEC,
        *PREPARED,
        "datasets_prep.folders",
        "datasets_prep.sources.signals",
        "datasets_prep.encode",
        "datasets_prep.ledger",
    ),
    "datasets_prep.streaming": (
        "walloc_cdl.latents",
        "walloc_cdl.codec",
        *PREPARED,
        "datasets_prep.folders",
        "datasets_prep.encode",
        "datasets_prep.ledger",
        "datasets_prep.job",
    ),
    "datasets_prep.upkeep": (
        "walloc_cdl.latents",
        "walloc_cdl.codec",
        "walloc_cdl.data",
        *PREPARED,
        "datasets_prep.folders",
        "datasets_prep.encode",
        "datasets_prep.ledger",
        "datasets_prep.job",
    ),
    "datasets_prep.exports": ("walloc_cdl.latents", "datasets_prep.folders", "datasets_prep.job"),
    "datasets_prep.codec_fit": (
        "walloc_cdl.latents",
        *CODEC,
        *PREPARED,
        "datasets_prep.folders",
        "datasets_prep.sources",
        "datasets_prep.encode",
        "datasets_prep.job",
    ),
    "datasets_prep": (
        "walloc_cdl.latents",
        "walloc_cdl.codec",
        "walloc_cdl.codec.fit",
        "walloc_cdl.data",
        *PREPARED,
        "datasets_prep.folders",
        "datasets_prep.encode",
        "datasets_prep.ledger",
        "datasets_prep.job",
        "datasets_prep.streaming",
        "datasets_prep.upkeep",
        "datasets_prep.codec_fit",
    ),
    "datasets_prep.page": (
        "walloc_cdl.latents",
        "walloc_cdl.codec",
        "walloc_cdl.data",
        "datasets_prep",
        "datasets_prep.ledger",
        "datasets_prep.sources.core",
    ),
    "datasets_prep.cli": ("walloc_cdl.latents", "walloc_cdl.data", "walloc_cdl.cli", *CODEC, "datasets_prep.*"),
    "classifiers.sound": ("walloc_cdl.data",),
    "classifiers.models": (
        "classifiers.sound",
        "walloc_cdl.codec.fit",
        "walloc_cdl.data",
        "walloc_cdl.augment",
        "walloc_cdl.transforms",
        "walloc_cdl.training",
    ),
    "classifiers.evaluation": (
        "walloc_cdl.latents",
        "walloc_cdl.data",
        "walloc_cdl.augment",
        "walloc_cdl.training",
        "classifiers.models",
    ),
    "classifiers.report": ("walloc_cdl.data", "walloc_cdl.training", "classifiers.models", "classifiers.evaluation"),
    "classifiers.runs": (
        "walloc_cdl.latents",
        "walloc_cdl.codec",
        "walloc_cdl.codec.io",
        "walloc_cdl.data",
        "walloc_cdl.augment",
        "walloc_cdl.transforms",
        "walloc_cdl.training",
        "classifiers.sound",
        "classifiers.models",
        "classifiers.evaluation",
        "classifiers.report",
    ),
    "classifiers.prediction": (
        "walloc_cdl.latents",
        "walloc_cdl.codec",
        "walloc_cdl.data",
        "walloc_cdl.training",
        *PREPARED,
        "datasets_prep.encode",
        "datasets_prep.job",
        "datasets_prep.sources.folders",
        "datasets_prep.sources.signals",
        "datasets_prep",
        "classifiers.models",
        "classifiers.evaluation",
        "classifiers.runs",
    ),
    "classifiers.probe": (
        "walloc_cdl.latents",
        "walloc_cdl.data",
        "walloc_cdl.training",
        "classifiers.models",
        "classifiers.evaluation",
    ),
    "classifiers.hub": (
        "walloc_cdl.codec",
        "walloc_cdl.training",
        "datasets_prep.hub",
        "classifiers.models",
        "classifiers.evaluation",
        "classifiers.runs",
    ),
    "classifiers.export": (
        "walloc_cdl.kernels",
        "walloc_cdl.codec",
        "walloc_cdl.codec.families",
        "walloc_cdl.training",
        "classifiers.models",
        "classifiers.runs",
        "classifiers.prediction",
    ),
    "classifiers": (),
    "classifiers.cli": (
        "walloc_cdl.latents",
        "walloc_cdl.data",
        "walloc_cdl.augment",
        "walloc_cdl.transforms",
        "walloc_cdl.cli",
        "classifiers",
        "classifiers.models",
        "classifiers.evaluation",
        "classifiers.runs",
        "classifiers.prediction",
        "classifiers.probe",
        "classifiers.hub",
        "classifiers.export",
    ),
    "experiments.peers": ("walloc_cdl.*", "datasets_prep.*", "classifiers.*"),
    "experiments.benchmarks": ("walloc_cdl.*", "datasets_prep.*", "classifiers.*", "experiments.peers"),
    "experiments": ("walloc_cdl.*", "datasets_prep.*", "classifiers.*", "experiments.peers", "experiments.benchmarks"),
    "experiments.comparison": ("walloc_cdl.*", "datasets_prep.*", "classifiers.*"),
    "experiments.costs": (
        "walloc_cdl.*",
        "datasets_prep.*",
        "classifiers.*",
        "experiments.benchmarks",
        "experiments.comparison",
    ),
    "experiments.report": ("walloc_cdl.*", "classifiers.*", "experiments.comparison"),
    "experiments.fidelity": (
        "walloc_cdl.*",
        "datasets_prep.*",
        "classifiers.*",
        "experiments",
        "experiments.comparison",
    ),
    "experiments.probing": (
        "walloc_cdl.*",
        "datasets_prep.*",
        "classifiers.*",
        "experiments.comparison",
        "experiments.fidelity",
    ),
    "experiments.training": (
        "walloc_cdl.*",
        "datasets_prep.*",
        "classifiers.*",
        "experiments.comparison",
        "experiments.costs",
        "experiments.fidelity",
        "experiments.report",
    ),
    "experiments.sound": ("walloc_cdl.*", "datasets_prep.*", "classifiers.*", "experiments", "experiments.comparison"),
    "experiments.augmentation": (
        "walloc_cdl.*",
        "datasets_prep.*",
        "classifiers.*",
        "experiments",
        "experiments.comparison",
        "experiments.training",
    ),
    "experiments.cli": ("walloc_cdl.*", "datasets_prep.*", "classifiers.*", "experiments.*"),
}
# Of others', what must stay out of a folder and of those below it.
FORBIDDEN = {
    "walloc_cdl.codec": ("timm", "datasets", "diffusers", "transformers", "walloc"),
    "walloc_cdl.compat": ("timm", "datasets", "diffusers", "transformers", "walloc"),
    "walloc_cdl.latents": ("timm", "datasets"),
    "walloc_cdl.data": ("timm", "datasets"),
    "walloc_cdl.training": ("timm.models", "timm.data", "datasets"),
    "walloc_cdl.kernels": ("timm", "datasets"),
    "datasets_prep": ("timm",),
    "classifiers": ("datasets",),
}


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def is_folder(name: str) -> bool:
    return (ROOT / name.replace(".", "/") / "__init__.py").is_file()


def folder_of(name: str) -> str:
    """Of a module the folder that it lies in, of a folder, whose `__init__` is meant, itself."""
    return name if is_folder(name) else name.rpartition(".")[0]


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports anywhere in it; `from package import module` counts as the module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write it out"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (ROOT / inner.replace(".", "/")).with_suffix(".py").is_file()
                found.add(inner if is_module or is_folder(inner) else node.module)
    return found


def modules() -> dict[str, set[str]]:
    graph = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            graph[name] = imports_of(path)
    return graph


GRAPH = modules()


def is_allowed(folder: str, imported: str) -> bool:
    """Whether a file of `folder` may import `imported`, a module or folder of ours."""
    if folder_of(imported) == folder:
        return True
    if folder_of(imported) in ("walloc_cdl.planes", "walloc_cdl.linear", "walloc_cdl.settings"):
        return True  # parts of the base
    if folder_of(imported) == "walloc_cdl":
        return imported.rpartition(".")[2] in BASE or (imported == "walloc_cdl" and not within(folder, "walloc_cdl"))
    return any(
        within(folder_of(imported), row.removesuffix(".*")) if row.endswith(".*") else folder_of(imported) == row
        for row in FLOORS[folder]
    )


@pytest.mark.parametrize("module", [name for name in GRAPH if not is_folder(name) and folder_of(name) != "walloc_cdl"])
def test_module_imports_only_what_the_table_allows(module):
    folder = folder_of(module)
    assert folder in FLOORS, f"{folder} has no row in the table"
    for imported in sorted(GRAPH[module]):
        if imported.split(".")[0] in PACKAGES:
            assert is_allowed(folder, imported), f"{module} imports {imported}; {folder} may import {FLOORS[folder]}"


@pytest.mark.parametrize("module", GRAPH)
def test_module_keeps_out_what_its_folder_must_not_load(module):
    for folder, outside in FORBIDDEN.items():
        if within(module, folder):
            for imported in GRAPH[module]:
                assert not any(within(imported, name) for name in outside), f"{module} imports {imported}"


def test_base_modules_import_only_those_before_them():
    for place, name in enumerate(BASE):
        ours = {imported for imported in GRAPH[f"walloc_cdl.{name}"] if within(imported, "walloc_cdl")}
        assert ours <= {f"walloc_cdl.{before}" for before in BASE[:place]}, name
    others = {name.rpartition(".")[2] for name in GRAPH if folder_of(name) == "walloc_cdl"}
    assert others - set(BASE) == {"walloc_cdl", "__main__"}


@pytest.mark.parametrize("package", [name for name in GRAPH if is_folder(name) and name not in PACKAGES])
def test_the_face_of_a_folder_shows_what_lies_in_and_below_it(package):
    """But for `datasets_prep.sources`, which opens sources, and the lazy tables of whole packages."""
    allowed = (package, *FLOORS.get(package, ()))
    for imported in GRAPH[package]:
        if imported.split(".")[0] in PACKAGES and folder_of(imported) != "walloc_cdl":
            assert any(within(imported, prefix) for prefix in allowed), f"{package} imports {imported}"


def test_folders_stand_in_an_order_without_circles():
    before: list[str] = []
    for folder, rows in FLOORS.items():
        for row in rows:
            known = any(within(name, row[:-2]) for name in before) if row.endswith(".*") else row in before
            assert known, f"{folder} names {row}, which does not come before it"
        before.append(folder)
    assert set(before) >= {folder_of(name) for name in GRAPH if not is_folder(name)} - {"walloc_cdl"}


def test_nothing_below_imports_a_command_line():
    for module, imported in GRAPH.items():
        if ".cli" not in module and module != "walloc_cdl.__main__":
            assert not any(".cli" in name for name in imported if name.split(".")[0] in PACKAGES), module
    for module in (name for name in GRAPH if within(name, "walloc_cdl.cli")):
        assert all(not within(name, package) for name in GRAPH[module] for package in PACKAGES[1:]), module


def test_no_folder_has_many_files():
    for package in PACKAGES:
        for folder in [ROOT / package, *(path for path in (ROOT / package).rglob("*") if path.is_dir())]:
            assert len(list(folder.glob("*.py"))) <= MAX_FILES, folder


def test_our_modules_import_each_other_without_a_cycle():
    ours = {
        module: {name for name in imported if name in GRAPH and name != module} for module, imported in GRAPH.items()
    }
    # The packages with a stub import lazily, by its names, which are no edges.
    done: set[str] = set()
    while len(done) < len(ours):
        free = {module for module in ours if module not in done and ours[module] <= done}
        assert free, f"a cycle among {sorted(set(ours) - done)}"
        done |= free


@pytest.mark.parametrize("package", ["walloc_cdl", "datasets_prep", "classifiers"])
def test_public_names_are_where_the_stub_says(package):
    module = importlib.import_module(package)
    assert module.__all__
    assert all(getattr(module, name) is not None for name in module.__all__)


def test_importing_the_package_and_the_command_line_loads_no_torch():
    code = (
        "import sys, walloc_cdl, walloc_cdl.cli; print([m for m in ('torch', 'timm', 'datasets') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == "[]"
