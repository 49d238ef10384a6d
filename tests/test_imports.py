"""The import table of docs/design.md, held against the code: function bodies count, too."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("walloc_cdl", "datasets_prep", "classifiers", "experiments")
BASE = (
    "walloc_cdl.spec",
    "walloc_cdl.errors",
    "walloc_cdl.canonical",
    "walloc_cdl.fields",
    "walloc_cdl.files",
    "walloc_cdl.synthesis",
)

# What each part may import of ours, besides itself. The first prefix that fits decides.
ALLOWED = {
    "walloc_cdl.errors": (),
    "walloc_cdl.canonical": (),
    "walloc_cdl.files": (),
    "walloc_cdl.spec": ("walloc_cdl.errors",),
    "walloc_cdl.fields": ("walloc_cdl.errors", "walloc_cdl.spec"),
    "walloc_cdl.synthesis": ("walloc_cdl.errors", "walloc_cdl.spec"),
    "walloc_cdl.kernels": ("walloc_cdl.spec",),
    "walloc_cdl.codec": (*BASE, "walloc_cdl.kernels"),
    "walloc_cdl.latents": (*BASE, "walloc_cdl.kernels"),
    "walloc_cdl.data": (*BASE, "walloc_cdl.kernels", "walloc_cdl.latents"),
    "walloc_cdl.compat": (*BASE, "walloc_cdl.codec", "walloc_cdl.latents"),
    "walloc_cdl.cli": PACKAGES,
    "walloc_cdl.__main__": ("walloc_cdl.cli",),
    "walloc_cdl": ("walloc_cdl",),
    "datasets_prep": ("walloc_cdl",),
    "classifiers": (*BASE, "walloc_cdl.data", "walloc_cdl.transforms"),
    "experiments": PACKAGES,
}
# Of others', what must stay out.
FORBIDDEN = {
    "walloc_cdl.codec": ("timm", "datasets", "diffusers", "transformers", "walloc"),
    "walloc_cdl.compat": ("timm", "datasets", "diffusers", "transformers", "walloc"),
    "walloc_cdl.latents": ("timm", "datasets"),
    "walloc_cdl.data": ("timm", "datasets"),
    "walloc_cdl.kernels": ("timm", "datasets"),
    "datasets_prep": ("timm",),
    "classifiers": ("datasets",),
}


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def home(module: str) -> str:
    return next(prefix for prefix in ALLOWED if within(module, prefix))


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
                found.add(inner if is_module or (ROOT / inner.replace(".", "/")).is_dir() else node.module)
    return found


def modules() -> dict[str, set[str]]:
    graph = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            graph[name] = imports_of(path)
    return graph


GRAPH = modules()


@pytest.mark.parametrize("module", GRAPH)
def test_module_imports_only_what_the_table_allows(module):
    place = home(module)
    for imported in sorted(GRAPH[module]):
        if within(imported, "walloc_cdl") or imported.split(".")[0] in PACKAGES:
            # The root package is a lazy table of names, and the version: outside of it, it may be imported itself.
            is_root = imported == "walloc_cdl" and not within(place, "walloc_cdl")
            allowed = is_root or any(within(imported, prefix) for prefix in (place, *ALLOWED[place]))
            assert allowed, f"{module} imports {imported}; {place} may import only {ALLOWED[place]}"
        for outside in FORBIDDEN.get(place, ()):
            assert not within(imported, outside), f"{module} imports {outside}"


def test_nothing_but_the_command_line_imports_experiments():
    for module, imported in GRAPH.items():
        if not within(module, "experiments") and not within(module, "walloc_cdl.cli"):
            assert not any(within(name, "experiments") for name in imported), module


def test_our_modules_import_each_other_without_a_cycle():
    ours = {
        module: {name for name in imported if name in GRAPH and name != module} for module, imported in GRAPH.items()
    }
    # The root package imports lazily, by name, so its own table of names is no edge.
    done: set[str] = set()
    while len(done) < len(ours):
        free = {module for module in ours if module not in done and ours[module] <= done}
        assert free, f"a cycle among {sorted(set(ours) - done)}"
        done |= free


def test_importing_the_package_and_the_command_line_loads_no_torch():
    code = (
        "import sys, walloc_cdl, walloc_cdl.cli; print([m for m in ('torch', 'timm', 'datasets') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == "[]"
