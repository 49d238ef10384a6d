"""Compiled packing and unpacking of bit planes, compared with the reference in numpy."""

import ctypes
import mmap
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.support.planes import plane_orders
from walloc_cdl.errors import CallError
from walloc_cdl.kernels.cpu.planes import pack, row_histogram, unpack, unpack_values
from walloc_cdl.planes.rows import pack_rows, plane_bytes, unpack_rows
from walloc_cdl.spec import count_planes

GRIDS = st.one_of(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(1, 90)),
    st.sampled_from([(8, 4), (4, 10), (7, 9), (28, 28), (32, 32)]),
)


def random_codes(planes, grid, count, seed=0):
    rng = np.random.default_rng(seed)
    codes = [rng.integers(0, 2**bits, (count, *grid), dtype=np.uint8) for bits in count_planes(planes)[1]]
    return np.stack(codes, 1)


def random_table(planes, seed=0):
    return np.random.default_rng(seed).normal(size=(count_planes(planes)[0], 256)).astype(np.float32)


def looked_up(codes, table):
    return np.stack([table[channel][codes[:, channel]] for channel in range(codes.shape[1])], 1)


@settings(max_examples=150, deadline=None, phases=[Phase.generate])
@given(planes=plane_orders(max_channels=6), grid=GRIDS, count=st.integers(0, 3), seed=st.integers(0, 9), data=st.data())
def test_rows_are_those_of_the_reference(planes, grid, count, seed, data):
    codes = random_codes(planes, grid, count, seed)
    rows = pack(codes, planes)
    assert rows.dtype == np.uint8
    assert np.array_equal(rows, pack_rows(codes, planes))
    shown = planes[: data.draw(st.integers(1, len(planes)))]  # a prefix of longer rows, which is not contiguous
    expected = unpack_rows(rows, shown, grid)
    for stored in (rows, rows[:, : len(shown) * plane_bytes(grid)], np.asfortranarray(rows), rows[::-1][::-1]):
        found = unpack(stored, shown, grid)
        assert found.dtype == np.uint8
        assert np.array_equal(found, expected)
    table = random_table(shown, seed)
    values = unpack_values(rows, table, shown, grid)
    assert values.dtype == np.float32
    assert np.array_equal(values, looked_up(expected, table))
    histogram = row_histogram(rows, shown, grid)
    assert histogram.dtype == np.int64
    counts = [np.bincount(expected[:, channel].ravel(), minlength=256) for channel in range(expected.shape[1])]
    assert np.array_equal(histogram, counts)


def test_planes_of_a_codec_at_every_prefix():
    """More bits than a register has lanes, and many channels."""
    planes = tuple(channel for channel in range(9) for _ in range(1 + channel % 8))
    codes = random_codes(planes, (16, 16), 3)
    rows = pack(codes, planes)
    for count in range(1, len(planes) + 1):
        shown = planes[:count]
        expected = unpack_rows(rows, shown, (16, 16))
        table = random_table(shown)
        assert np.array_equal(unpack(rows, shown, (16, 16)), expected)
        assert np.array_equal(unpack_values(rows, table, shown, (16, 16)), looked_up(expected, table))


def test_threads_unpack_at_the_same_time():
    planes = (0, 0, 1, 0, 2, 1, 2, 2)
    rows = pack(random_codes(planes, (32, 32), 16), planes)
    table, expected = random_table(planes), unpack_rows(rows, planes, (32, 32))
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: (unpack(rows, planes, (32, 32)), pack(expected, planes)), range(16)))
        values = list(threads.map(lambda _: unpack_values(rows, table, planes, (32, 32)), range(16)))
    assert all(np.array_equal(codes, expected) and np.array_equal(packed, rows) for codes, packed in found)
    assert all(np.array_equal(each, looked_up(expected, table)) for each in values)


@pytest.mark.parametrize("grid", [(3, 3), (4, 8), (5, 9), (32, 32)])
def test_nothing_is_read_beyond_the_rows(grid):
    """The rows end with a page, and the next page is protected."""
    planes = (0, 0, 1, 0, 1)
    rows = pack(random_codes(planes, grid, 2), planes)
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    mapped = np.frombuffer(memory, np.uint8, count=page)[page - rows.size :].reshape(rows.shape)
    mapped[:] = rows
    protect = ctypes.CDLL(None).mprotect
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert protect(ctypes.c_void_p(address + page), ctypes.c_size_t(page), 0) == 0
    try:
        assert np.array_equal(unpack(mapped, planes, grid), unpack_rows(rows, planes, grid))
        assert unpack_values(mapped, random_table(planes), planes, grid).shape == (2, 2, *grid)
        assert row_histogram(mapped, planes, grid).sum() == 2 * 2 * grid[0] * grid[1]
    finally:
        protect(ctypes.c_void_p(address + page), ctypes.c_size_t(page), 3)


def test_arrays_of_other_shapes_and_types_are_refused():
    planes, rows = (0, 0, 1), np.zeros((2, 5), np.uint8)
    for call in (unpack, row_histogram, lambda *arguments: unpack_values(rows, random_table(planes), *arguments[1:])):
        with pytest.raises(CallError, match=r"rows uint8 \[2, 5\]; expected uint8 \[N, 6 or more\]"):
            call(rows, planes, (3, 3))
    with pytest.raises(CallError, match="rows int64"):
        unpack(np.zeros((2, 6), np.int64), planes, (3, 3))
    with pytest.raises(CallError, match=r"a table of shape \[1, 256\]; expected \[2, 256\]"):
        unpack_values(rows, np.zeros((1, 256), np.float32), planes, (2, 2))
    for codes in (np.zeros((2, 3, 2, 2), np.uint8), np.zeros((2, 2, 2, 2), np.int64)):
        with pytest.raises(CallError, match=r"expected uint8 \[N, 2, …\]"):
            pack(codes, planes)


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["generic", "haswell"])
def test_other_processors_give_the_same(processor, tmp_path):
    """Compiled without permutations of registers, and with those of eight lanes. The processor here need have neither
    more nor less than that."""
    if processor == "haswell" and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("needs a processor with AVX2")
    settings = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "+avx2,+fma" if processor == "haswell" else ""}
    tests = [
        "tests/kernels/test_planes.py::test_planes_of_a_codec_at_every_prefix",
        "tests/kernels/test_quantize_levels.py",
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests]
    environment = {**os.environ, **settings, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
