"""Tables of levels, and their file."""

import numpy as np
import pytest
from safetensors.numpy import save

from tests.support.planes import spec_of
from walloc_cdl.errors import DamagedError
from walloc_cdl.planes.levels import LevelTables, levels_from_bytes


def tables():
    """A channel of two bits and one of one bit."""
    first = np.array([-1.0, 0.0, 2.0]), [np.array([0.25]), np.array([-1, 1.5]), np.array([-2, -0.5, 1, 3])]
    second = np.array([0.5]), [np.array([0.5]), np.array([0.0, 1.0])]
    return LevelTables.of_channels([first, second])


def test_fewer_bits_have_every_second_threshold_and_their_own_values():
    levels = tables()
    assert levels.bits == (2, 1)
    assert levels.channel_thresholds(0, 2).tolist() == [-1, 0, 2]
    assert levels.channel_thresholds(0, 1).tolist() == [0]
    assert levels.channel_thresholds(0, 0).tolist() == []
    assert levels.channel_values(0, 2).tolist() == [-2, -0.5, 1, 3]
    assert levels.channel_values(0, 1).tolist() == [-1, 1.5]
    assert levels.channel_values(1, 1).tolist() == [0, 1]
    assert levels.means().tolist() == [0.25, 0.5]


def test_bytes_above_the_largest_code_have_its_value():
    table = tables().values_table((1, 1))
    assert table.shape == (2, 256)
    assert table[0, 0] == -1
    assert (table[0, 1:] == 1.5).all()
    assert (table[1, 1:] == 1).all()


def test_the_file_returns_the_same_tables():
    levels = tables()
    read = levels_from_bytes(levels.to_bytes(), origin="levels")
    assert read.bits == levels.bits
    np.testing.assert_array_equal(read.thresholds, levels.thresholds)
    np.testing.assert_array_equal(read.values, levels.values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": np.zeros(3, np.float32)}, r"thresholds is float32 \[3\], expected float32 \[4\]"),
        ({"thresholds": np.zeros(4)}, r"thresholds is float64 \[4\]"),
        ({"values": np.full(10, np.nan, np.float32)}, "numbers that are not finite"),
        (
            {"values": np.arange(10, dtype=np.float32)[::-1].copy()},
            "levels of channel 0 that are not in ascending order",
        ),
        ({"bits": np.array([2, 9], np.uint8)}, "channels of 2 to 9 bits, expected 1 to 8"),
        ({"bits": np.zeros(0, np.uint8)}, r"bits is uint8 \[0\]"),
        ({"bits": np.array([2, 1])}, r"bits is int64 \[2\]"),
        ({"bits": np.array([2], np.uint8)}, r"thresholds is float32 \[4\], expected float32 \[3\]"),
        ({"more": np.zeros(1, np.float32)}, "'more' is unknown"),
    ],
)
def test_other_files_are_refused(change, message):
    levels = tables()
    data = save(
        {"bits": np.array([2, 1], np.uint8), "thresholds": levels.thresholds, "values": levels.values, **change}
    )
    with pytest.raises(DamagedError, match=f"levels: not the levels of these latents .*{message}"):
        levels_from_bytes(data, origin="levels")
    with pytest.raises(DamagedError, match="not the levels"):
        levels_from_bytes(levels.to_bytes()[:-1], origin="levels")


def test_levels_must_cover_the_latents():
    levels = tables()
    levels.require_fit(spec_of((0, 0, 1)), origin="levels")
    levels.require_fit(spec_of((0,)), origin="levels")
    for planes in ((0, 1, 2), (0, 1, 1)):
        with pytest.raises(DamagedError, match="levels: levels for 2 channels of up to 2 bits, which are fewer"):
            levels.require_fit(spec_of(planes), origin="levels")
