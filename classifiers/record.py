"""`RunRecord`: what a training run leaves, as one JSON."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch

import walloc_cdl
from classifiers.metrics import Metrics
from walloc_cdl.errors import DamagedError


@dataclass(frozen=True)
class RunRecord:
    """The result of a run, with all that it depends on."""

    config: dict[str, Any]
    """`classifier`, `train` and `data`, as in the run's config.json."""
    seeds: dict[str, int]
    commit: str | None
    """Commit that the working directory was at; None outside a git repository."""
    environment: dict[str, Any]
    """Versions, processor, threads, device, precision."""
    metrics: Metrics | None
    """Of the averaged weights on the validation data; None if there were none."""
    elapsed_s: float
    """Training, evaluation left out; of all sessions of a resumed run together."""
    images_per_s: float
    """Training rate: the median over the epochs."""
    losses: list[float]
    """Mean training loss of each epoch."""
    weights_sha256: str
    """Of model.safetensors."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, for canonical JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Any, *, origin: str) -> RunRecord:
        """Inverse of `to_json` for untrusted values; raises `DamagedError`, naming `origin`."""
        try:
            metrics = fields["metrics"]
            return cls(**{**fields, "metrics": None if metrics is None else Metrics(**metrics)})
        except (KeyError, TypeError) as error:
            raise DamagedError(f"{origin}: not the record of a run ({error}); train again") from error


def current_commit() -> str | None:
    """The commit of the working directory, with `+` if files differ from it; None outside a git repository."""
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")


def describe_environment(device: torch.device, precision: str) -> dict[str, Any]:
    """What the run's figures depend on beside its configuration."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "walloc_cdl": walloc_cdl.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cpu_count": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": precision,
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _cpu_model() -> str:
    """The processor's name; Python knows only its architecture on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
