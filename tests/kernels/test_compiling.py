import pytest
from numba import njit
from numba.core import caching

from walloc_cdl.kernels.cpu.compiling import compiled


def double(x):
    return 2 * x


def test_kernels_are_cached_for_the_next_process():
    assert compiled()(double).stats.cache_path


def test_kernels_compile_where_no_cache_can_be_written(monkeypatch):
    """As for a user without a home folder and without permission to write to the package."""
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="cannot cache function"):
        njit(double, cache=True)
    assert compiled(fastmath={"contract"})(double)(21) == 42
