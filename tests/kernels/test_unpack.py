"""Unpacking of rows of bit planes on tensors: by numba, by Triton's interpreter and by torch, which agree."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.test_planes import GRIDS, looked_up, random_codes, random_table
from tests.support.interpreted import interpret_kernels
from tests.support.planes import plane_orders
from walloc_cdl.errors import CallError
from walloc_cdl.kernels.gpu import encode
from walloc_cdl.kernels.gpu.lookup import plain_lookup
from walloc_cdl.kernels.gpu.unpack import (
    lookup_rows,
    pack_rows_tensor,
    plain_pack,
    plain_unpack,
    unpack_by_triton,
    unpack_rows_tensor,
)
from walloc_cdl.planes.rows import pack_rows, plane_bytes, unpack_rows

PLANES = (0, 0, 1, 0, 2, 1, 2, 2)


@settings(max_examples=60, deadline=None)
@given(planes=plane_orders(max_channels=4), grid=GRIDS, count=st.integers(0, 3), data=st.data())
def test_tensors_are_packed_and_unpacked_as_arrays_are(planes, grid, count, data):
    codes = random_codes(planes, grid, count)
    rows = torch.from_numpy(pack_rows(codes, planes))
    assert torch.equal(pack_rows_tensor(torch.from_numpy(codes), planes), rows)
    assert torch.equal(plain_pack(torch.from_numpy(codes), planes), rows)
    shown = planes[: data.draw(st.integers(1, len(planes)))]
    expected = torch.from_numpy(unpack_rows(rows.numpy(), shown, grid))
    table = torch.from_numpy(random_table(shown))
    values = torch.from_numpy(looked_up(expected.numpy(), table.numpy()))
    for stored in (rows, rows[:, : len(shown) * plane_bytes(grid)], rows.T.contiguous().T):
        assert torch.equal(plain_unpack(stored, shown, grid), expected)
        assert torch.equal(unpack_rows_tensor(stored, shown, grid), expected)
        assert torch.equal(lookup_rows(stored, table, shown, grid), values)


@pytest.mark.skipif(not encode.has_triton(), reason="triton is not installed")
@pytest.mark.parametrize("grid", [(8, 4), (3, 3), (70,), (5, 40), (1, 1), (40, 30)])
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float16, torch.bfloat16])
def test_the_kernel_for_gpus_gives_the_same(monkeypatch, grid, dtype):
    rows = torch.from_numpy(pack_rows(random_codes(PLANES, grid, 3), PLANES))
    for stored in (rows, rows[:0], rows[::2], rows.T.contiguous().T):
        for shown in (PLANES, PLANES[:4]):
            codes = plain_unpack(stored, shown, grid)
            table = None if dtype is None else torch.from_numpy(random_table(shown)).to(dtype)
            expected = codes if table is None else plain_lookup(codes, table, None, dtype)
            for _ in interpret_kernels(monkeypatch):
                found = unpack_by_triton(stored, shown, grid, table)
                public = unpack_rows_tensor(stored, shown, grid) if table is None else None
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)
            assert public is None or torch.equal(public, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_values_have_the_type_that_was_asked_for(dtype):
    rows = torch.from_numpy(pack_rows(random_codes(PLANES, (6, 7), 2), PLANES))
    table = torch.from_numpy(random_table(PLANES))
    found = lookup_rows(rows, table, PLANES, (6, 7), dtype)
    assert found.dtype == dtype
    assert torch.equal(found, plain_lookup(plain_unpack(rows, PLANES, (6, 7)), table, None, dtype))
    assert lookup_rows(rows, table.to(dtype), PLANES, (6, 7)).dtype == dtype


def test_a_table_can_be_trained():
    rows = torch.from_numpy(pack_rows(random_codes(PLANES, (4, 4), 2), PLANES))
    table = torch.from_numpy(random_table(PLANES)).requires_grad_()
    lookup_rows(rows, table, PLANES, (4, 4)).sum().backward()
    assert table.grad.sum() == 2 * 3 * 16


def test_unpacking_is_opaque_to_torch_compile():
    rows = torch.from_numpy(pack_rows(random_codes(PLANES, (6, 7), 2), PLANES))
    table = torch.from_numpy(random_table(PLANES))

    def both(rows, table):
        return lookup_rows(rows, table, PLANES, (6, 7)) * 2, unpack_rows_tensor(rows, PLANES, (6, 7)).float() + 1

    compiled = torch.compile(both, backend="eager", fullgraph=True)
    for found, expected in zip(compiled(rows, table), both(rows, table), strict=True):
        assert torch.equal(found, expected)


def test_operators_describe_their_results():
    rows = torch.from_numpy(pack_rows(random_codes(PLANES, (6, 7), 2), PLANES))
    table = torch.from_numpy(random_table(PLANES))
    arguments = list(PLANES), [6, 7]
    torch.library.opcheck(torch.ops.walloc_cdl.unpack_rows, (rows, *arguments))
    torch.library.opcheck(torch.ops.walloc_cdl.lookup_rows, (rows, table, *arguments, torch.float16))


def test_rows_that_are_too_short_and_other_tables_are_refused():
    rows = torch.zeros((2, 15), dtype=torch.uint8)
    table = torch.zeros((3, 256))
    for call in (lambda: unpack_rows_tensor(rows, PLANES, (3, 3)), lambda: lookup_rows(rows, table, PLANES, (3, 3))):
        with pytest.raises(CallError, match=r"rows torch.uint8 \[2, 15\]; expected uint8 \[N, 16 or more\]"):
            call()
    with pytest.raises(CallError, match=r"a table of shape \[2, 256\]; expected \[3, 256\]"):
        lookup_rows(torch.zeros((2, 16), dtype=torch.uint8), table[:2], PLANES, (3, 3))
    with pytest.raises(CallError, match=r"rows torch.int64"):
        unpack_rows_tensor(torch.zeros((2, 16), dtype=torch.int64), PLANES, (3, 3))
    assert np.array_equal(unpack_rows_tensor(rows[:0], PLANES, (2, 4)).shape, (0, 3, 2, 4))
