"""The wheel that `make dist` builds: what it holds, and that it works in a fresh environment, without the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.pictures import picture

PACKAGES = ("walloc_cdl", "datasets_prep", "classifiers", "experiments")
ZOO = "walloc_cdl/codec/io/zoo"

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> str:
    """What a command prints that finds modules by itself only, not by the settings of this process."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=own, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built of a copy of the sources, so that the checkout stays as it is."""
    sources = tmp_path_factory.mktemp("sources")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", sources / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", ".", cwd=sources)
    (built,) = (sources / "dist").glob("*.whl")
    assert len(list((sources / "dist").glob("*.tar.gz"))) == 1
    return built


@pytest.fixture(scope="module")
def scripts(wheel, tmp_path_factory) -> Path:
    """`bin` of a fresh environment with the wheel; its dependencies are those that this process has."""
    root = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", root, cwd=root.parent)
    folder = root / ("Scripts" if os.name == "nt" else "bin")
    run(sys.executable, "-m", "pip", "--python", folder / "python", "install", "--no-deps", wheel, cwd=root.parent)
    site = Path(run(folder / "python", "-c", SITE, cwd=root.parent).strip())
    # Only this environment's own `.pth` files are read, so that an editable installation there stays out.
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "dependencies.pth").write_text("\n".join(others))
    return folder


SITE = "import sysconfig; print(sysconfig.get_path('purelib'))"
WHERE = f"""
import importlib, json
print(json.dumps([importlib.import_module(name).__file__ for name in {PACKAGES!r}]))
"""


def test_the_wheel_holds_the_packages_and_the_zoo_and_nothing_else(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {path for package in PACKAGES for path in (ROOT / package).rglob("*.py*") if path.suffix in (".py", ".pyi")}
    ours.add(ROOT / "classifiers" / "report" / "page.html")
    ours.add(ROOT / "experiments" / "report" / "report.html")
    ours.add(ROOT / "datasets_prep" / "page" / "data_set.html")
    ours |= {path for path in (ROOT / ZOO).rglob("*") if path.is_file()}
    assert any(path.suffix == ".safetensors" for path in ours)
    assert held == {path.relative_to(ROOT).as_posix() for path in ours}


def test_modules_come_from_the_installed_wheel(scripts, tmp_path):
    found = [Path(path) for path in json.loads(run(scripts / "python", "-c", WHERE, cwd=tmp_path))]
    assert [path.parent.name for path in found] == list(PACKAGES)
    assert all(path.is_relative_to(scripts.parent) for path in found)
    assert (found[0].parents[1] / ZOO / "rgb-16x/model.safetensors").is_file()


def test_the_installed_command_prepares_and_verifies(scripts, wheel, tmp_path):
    for number in range(12):
        folder = tmp_path / "photos" / ("test" if number % 3 == 0 else "train") / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture(number, 72, 66).save(folder / f"{number:02d}.png")
    cdl = scripts / "cdl"
    assert wheel.name.split("-")[1] in run(cdl, "--version", cwd=tmp_path)
    assert "rgb-16x" in run(cdl, "codec", "list", cwd=tmp_path)
    made = ["prepare", "imagefolder:photos", "--codec", "rgb-16x", "--size", "64", "--out", "latents", "--workers", "1"]
    run(cdl, *made, cwd=tmp_path)
    run(cdl, "verify", "latents", "--full", cwd=tmp_path)
    manifest = json.loads((tmp_path / "latents/manifest.json").read_text())
    assert {name: split["num_samples"] for name, split in manifest["splits"].items()} == {"test": 4, "train": 8}
