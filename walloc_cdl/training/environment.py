"""What the figures of a run depend on in addition to its configuration: the code, the versions and the machine."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import torch

from walloc_cdl.machine import cpu_count
from walloc_cdl.version import __version__


def source_commit() -> str | None:
    """Returns the commit of this program, followed by `+` if Python files differ from it; None if it is unknown.

    It is the commit of the git checkout that contains the running package, not of the working directory, which may
    be another repository. For a package that pip installed from a repository, it is the one that pip recorded
    (PEP 610).
    """
    folder = Path(__file__).parent.parent
    try:
        # Without this check, an installed package would get the commit of a repository that its environment lies in.
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        head = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ":(top)*.py")
    except (OSError, subprocess.SubprocessError):
        return _installed_commit()
    return head + ("+" if changed else "")


def describe_environment(device: torch.device, precision: str, packages: Sequence[str] = ()) -> dict[str, Any]:
    """Returns versions (also those of `packages`), processor, threads, device and precision as plain values."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{package: version(package) for package in packages},
        "walloc_cdl": __version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cpu_count": cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": precision,
    }


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


def _installed_commit() -> str | None:
    try:
        record = json.loads(distribution("walloc-cdl").read_text("direct_url.json") or "{}")
        return record.get("vcs_info", {}).get("commit_id")
    except (PackageNotFoundError, ValueError, AttributeError):
        return None


def _cpu_model() -> str:
    """Returns the processor's name; on Linux `platform.processor` returns at most the architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
