"""A model input with prefixes reads each row's first planes exactly as the data set of these planes has them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.planes import levels_of, plane_orders, spec_of
from walloc_cdl.data import ChannelStatistics, ModelInput
from walloc_cdl.errors import CallError
from walloc_cdl.kernels.gpu.unpack import unpack_rows_tensor
from walloc_cdl.planes.levels import channel_values
from walloc_cdl.planes.rows import row_bytes

GRID = (3, 5)


def make(planes, seed=0, **options):
    spec = spec_of(planes)
    levels, rng = levels_of(spec, seed), np.random.default_rng(seed)
    statistics = ChannelStatistics(rng.standard_normal(spec.latent_channels), rng.uniform(0.5, 2, spec.latent_channels))
    model_input = ModelInput(spec, statistics, 0.5, levels=levels, grid=GRID, prefixes=True, **options)
    rows = torch.randint(
        256, (6, row_bytes(spec, GRID)), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return spec, levels, model_input, rows


def of_prefix(spec, levels, model_input, rows, num_planes):
    """Values of the prefix by its own spec and tables, and the means of missing channels, in units of the input."""
    prefix = spec.with_planes(num_planes)
    codes = unpack_rows_tensor(rows, prefix.planes, GRID).long()
    table = torch.from_numpy(channel_values(prefix, levels)).float()
    values = (
        torch.from_numpy(levels.means()).float()[None, : spec.latent_channels, None, None].repeat(len(rows), 1, *GRID)
    )
    for channel in range(prefix.latent_channels):
        values[:, channel] = table[channel][codes[:, channel]]
    return (values - model_input.mean[:, None, None]) * model_input.scale[:, None, None]


@settings(max_examples=40)
@given(planes=plane_orders(), seed=st.integers(0, 9), data=st.data())
def test_any_prefix_of_any_row(planes, seed, data):
    spec, levels, model_input, rows = make(planes, seed)
    counts = torch.tensor(data.draw(st.lists(st.integers(1, len(planes)), min_size=6, max_size=6)))
    found = model_input(rows, counts)
    for row, count, x in zip(rows, counts.tolist(), found, strict=True):
        expected = of_prefix(spec, levels, model_input, row[None], count)[0]
        torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-5)
        stored = row[None, : row_bytes(spec.with_planes(count), GRID)]
        assert torch.equal(model_input(stored)[0], x)
    assert torch.equal(model_input(rows, torch.full((6,), len(planes))), model_input(rows))


def test_what_has_no_prefixes_is_refused():
    spec, levels, model_input, rows = make((0, 1, 0, 2))
    with pytest.raises(CallError, match=r"1 to 5 bit planes of rows that have 4; give 1 to 4"):
        model_input(rows, torch.tensor([1, 2, 3, 4, 5, 1]))
    with pytest.raises(CallError, match=r"rows are torch.uint8"):
        model_input(rows[:, :3])
    with pytest.raises(CallError, match=r"rows are torch.uint8"):
        model_input(rows[:, :0])
    with pytest.raises(CallError, match=r"only rows .* have prefixes: build it with prefixes=True"):
        model_input(unpack_rows_tensor(rows, spec.planes, GRID), torch.tensor([1] * 6))
    statistics = ChannelStatistics(np.zeros(3), np.ones(3))
    plain = ModelInput(spec, statistics, 0.5, levels=levels, grid=GRID)
    with pytest.raises(CallError, match=r"build it with prefixes=True"):
        plain(rows, torch.tensor([1] * 6))
    with pytest.raises(CallError, match=r"expected torch.uint8"):
        plain(rows[:, : row_bytes(spec.with_planes(2), GRID)])
    assert set(model_input.state_dict()) - set(plain.state_dict()) == {"level_values"}
    with pytest.raises(CallError, match=r"prefixes are of rows of bit planes"):
        ModelInput(spec, statistics, 0.5, levels=levels, prefixes=True)
