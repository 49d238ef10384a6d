"""Triton's kernels on the CPU, by its interpreter."""

import sys
from collections.abc import Iterator

import pytest

from walloc_cdl.kernels.gpu import has_triton

KERNELS = ("walloc_cdl.kernels.triton_encode", "walloc_cdl.kernels.triton_lookup")


def interpret_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For a fixture: kernels are imported anew, as Triton decides at their definition whether they are interpreted."""
    has_triton()  # imported now, its own functions stay those that the compiler takes
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for name in KERNELS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield
    for name in KERNELS:
        sys.modules.pop(name, None)
