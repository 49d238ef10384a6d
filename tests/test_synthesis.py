"""The file of linear syntheses: what was written comes back, and nothing else is let in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.linear.synthesis import LinearSynthesis, choose_block, synthesis_from_bytes, synthesis_to_bytes
from walloc_cdl.spec import LatentSpec

SPEC = LatentSpec("c" * 64, "image", 3, 12, 8, 8, "normal")


def random_layer(block: int, spec: LatentSpec = SPEC) -> LinearSynthesis:
    rng = np.random.default_rng(block)
    rows, channels = spec.source_channels * block**2, spec.source_channels
    shapes = (rows, spec.latent_channels, 5, 5), (rows,), (channels,), (channels,)
    return LinearSynthesis(*(rng.random(shape).astype(np.float32) + 0.1 for shape in shapes))


GOOD = synthesis_to_bytes({block: random_layer(block) for block in (1, 2, 8)})


def test_round_trip_of_every_block_size():
    bank = synthesis_from_bytes(GOOD, spec=SPEC, origin="x")
    assert sorted(bank) == [1, 2, 8]
    for block, layer in bank.items():
        assert layer.block == block
        for name in ("weight", "bias", "pixel_mean", "pixel_std"):
            np.testing.assert_array_equal(getattr(layer, name), getattr(random_layer(block), name))
    assert synthesis_to_bytes(bank) == GOOD
    with pytest.raises(CallError, match=r"blocks of 4 pixels a latent; this data set has \[1, 2, 8\]"):
        choose_block(bank, 4)


def altered(**changes: np.ndarray | None) -> bytes:
    tensors = {**load(GOOD), **{name.replace("_", ".", 1): value for name, value in changes.items()}}
    return save({name: value for name, value in tensors.items() if value is not None})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a linear synthesis of these latents"),
        (GOOD[:-1], "not a linear synthesis of these latents"),
        (altered(**{"02_bias": None}), r"'02\.bias' is missing"),
        (altered(**{"02_extra": np.zeros(1, np.float32)}), r"'02\.extra' is unknown"),
        (save({"two.bias": np.zeros(1, np.float32)}), "invalid literal"),
        (
            altered(**{"01_weight": np.ones((3, 4, 5, 5), np.float32)}),
            r"\[3, 4, 5, 5\], expected float32 \[3, 12, 5, 5\]",
        ),
        (altered(**{"08_bias": np.zeros(192, np.float64)}), r"08\.bias is float64 \[192\], expected float32 \[192\]"),
        (
            altered(**{"01_bias": np.full(3, np.nan, np.float32)}),
            r"01\.bias has values that are not finite, or deviations that are not positive",
        ),
        (
            altered(**{"01_pixel_std": np.zeros(3, np.float32)}),
            r"01\.pixel_std has values that are not finite, or deviations that are not positive",
        ),
    ],
)
def test_anything_else_is_refused_in_one_line(data, message):
    with pytest.raises(DamagedError, match=message) as caught:
        synthesis_from_bytes(data, spec=SPEC, origin="codec/synthesis.safetensors")
    assert str(caught.value).startswith("codec/synthesis.safetensors: ")
    assert "\n" not in str(caught.value)


def test_a_synthesis_of_other_latents_is_refused():
    other = LatentSpec("c" * 64, "image", 3, 48, 8, 8, "normal")
    with pytest.raises(DamagedError, match=r"\[3, 12, 5, 5\], expected float32 \[3, 48, 5, 5\]"):
        synthesis_from_bytes(GOOD, spec=other, origin="x")


@settings(max_examples=60, deadline=None)
@given(start=st.integers(0, 1200), removed=st.integers(0, 9), inserted=st.binary(max_size=9))
def test_a_spliced_file_is_refused_or_well_formed(start, removed, inserted):
    data = GOOD[:start] + inserted + GOOD[start + removed :]
    try:
        bank = synthesis_from_bytes(data, spec=SPEC, origin="x")
    except DamagedError:
        return
    assert all(layer.weight.shape == (3 * block**2, 12, 5, 5) for block, layer in bank.items())
