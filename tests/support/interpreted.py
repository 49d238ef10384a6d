"""Triton's kernels on the CPU, by its interpreter."""

import sys
from collections.abc import Iterator

import pytest

from walloc_cdl.kernels import gpu
from walloc_cdl.kernels.gpu.encode import has_triton

KERNELS = ("walloc_cdl.kernels.gpu.triton_encode", "walloc_cdl.kernels.gpu.triton_lookup")


def interpret_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For a fixture: kernels are imported anew, as Triton decides at their definition whether they are interpreted."""
    has_triton()  # imported now, its own functions stay those that the compiler takes
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    _forget_kernels()
    yield
    _forget_kernels()


def _forget_kernels() -> None:
    """`from package import module` takes the package's attribute, whatever `sys.modules` has."""
    for name in KERNELS:
        sys.modules.pop(name, None)
        vars(gpu).pop(name.rpartition(".")[2], None)
