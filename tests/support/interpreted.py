"""Runs the Triton kernels on the CPU with Triton's interpreter.

The GPU's kernels are tested without a GPU: the interpreter's results are compared with matrices in float64, and the
kernels are compiled for three generations of GPUs (`tests/kernels/test_gpu_compiles.py`), where the code must fit the
shared memory and use the tensor cores.
"""

import sys
from collections.abc import Iterator

import pytest

from walloc_cdl.kernels import gpu
from walloc_cdl.kernels.gpu.encode import has_triton

KERNELS = tuple(f"walloc_cdl.kernels.gpu.triton_{name}" for name in ("encode", "lookup", "planes"))


def interpret_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For a fixture: import the kernels again, since Triton chooses the interpreter at their definition."""
    has_triton()  # imported before the variable is set, so that Triton's own functions remain compilable
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    _unload_kernels()
    yield
    _unload_kernels()


def _unload_kernels() -> None:
    """Remove the kernel modules, also from the attributes of their package, which `from package import module` uses."""
    for name in KERNELS:
        sys.modules.pop(name, None)
        vars(gpu).pop(name.rpartition(".")[2], None)
