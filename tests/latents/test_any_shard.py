"""Shards of every layout: every flipped bit is detected, and so are contradictions in ragged geometry."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.any_samples import draw_any, layouts
from tests.support.small_sets import make_spec
from walloc_cdl.errors import DamagedError
from walloc_cdl.latents import LabelSpec, SampleLayout, ShardEntry, open_shard, write_shard

NAME = "train-00000.safetensors"
RAGGED = SampleLayout(make_spec(), (2, None, None), LabelSpec("class", 3))
in_one_folder = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write_some(folder, layout, count=4):
    drawn = draw_any(np.random.default_rng(7), layout, count)
    return drawn, write_shard(folder, NAME, spec=layout.spec, split="train", layout=layout, **drawn.rows(0, count))


@in_one_folder
@given(layout=layouts(), data=st.data())
def test_every_flipped_bit_is_detected(tmp_path, layout, data):
    _, entry = write_some(tmp_path, layout)
    content = bytearray((tmp_path / NAME).read_bytes())
    original = [open_shard(tmp_path / NAME, entry, layout).sample_codes(row).copy() for row in range(4)]
    position, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    content[position] ^= 1 << bit
    (tmp_path / NAME).write_bytes(content)
    try:
        shard = open_shard(tmp_path / NAME, entry, layout)
    except DamagedError:
        return
    wrong = np.flatnonzero(shard.checksums() != shard.crc32c)
    assert wrong.size, "neither the parser nor a checksum detects the changed byte"
    for row in set(range(4)) - set(wrong.tolist()):
        np.testing.assert_array_equal(shard.sample_codes(row), original[row])


def set_value(folder, tensor, position, value):
    """Set one number of a tensor of the shard in `folder`."""
    data = bytearray((folder / NAME).read_bytes())
    length = int.from_bytes(data[:8], "little")
    field = json.loads(data[8 : 8 + length])[tensor]
    width = {"I64": 8, "I32": 4}[field["dtype"]]
    begin = 8 + length + field["data_offsets"][0] + width * position
    data[begin : begin + width] = value.to_bytes(width, "little", signed=True)
    (folder / NAME).write_bytes(data)


@pytest.mark.parametrize(
    ("tensor", "position", "value", "message"),
    [
        ("offsets", 0, 1, "offsets do not increase from 0 to"),
        ("offsets", 4, 2**62, "offsets do not increase from 0 to"),
        ("offsets", 2, 0, "offsets do not increase from 0 to"),
        ("offsets", 1, 1, "sample 0 of shape .* has another number of codes"),
        ("shapes", 0, 3, "expected 2 channels of at least one position"),
        ("shapes", 1, 0, "expected 2 channels of at least one position"),
        ("shapes", 4, -1, "expected 2 channels of at least one position"),
        ("shapes", 4, 2**31 - 1, "sample 1 of shape .* has another number of codes"),
        ("sizes", 0, 0, "sample 0 of size .* does not fit its codes"),
        ("sizes", 3, 2**31 - 1, "sample 1 of size .* does not fit its codes"),
    ],
)
def test_ragged_tensors_that_contradict_each_other_are_refused(tmp_path, tensor, position, value, message):
    _, entry = write_some(tmp_path, RAGGED)
    set_value(tmp_path, tensor, position, value)
    with pytest.raises(DamagedError, match=message):
        open_shard(tmp_path / NAME, entry, RAGGED)


def test_products_beyond_64_bits_do_not_match(tmp_path):
    """The product of three sizes of 2^31 - 1 is about 2^93, which would wrap around in int64."""
    layout = SampleLayout(make_spec(2**31 - 1), (2**31 - 1, None, None))
    _, entry = write_some(tmp_path, SampleLayout(make_spec(), (2, None, None)), count=1)
    data = (tmp_path / NAME).read_bytes()
    data = data.replace(b'\\"latent_channels\\":2,', b'\\"latent_channels\\":2147483647,')
    length = int.from_bytes(data[:8], "little") + 9
    padding = -length % 8
    header = data[8 : 8 + length] + b" " * padding
    (tmp_path / NAME).write_bytes((length + padding).to_bytes(8, "little") + header + data[8 + length :])
    for position in range(3):
        set_value(tmp_path, "shapes", position, 2**31 - 1)
    size = (tmp_path / NAME).stat().st_size
    entry = ShardEntry(**{**vars(entry), "num_bytes": size})
    with pytest.raises(DamagedError, match="has another number of codes"):
        open_shard(tmp_path / NAME, entry, layout)


@pytest.mark.parametrize(
    ("written", "opened"),
    [
        (RAGGED, SampleLayout(make_spec(), (2, None, None))),
        (SampleLayout(make_spec(), (2, 2, 3)), RAGGED),
        (SampleLayout(make_spec(), (2, 2, 3), num_views=2), SampleLayout(make_spec(), (2, 2, 3))),
        (
            SampleLayout(make_spec(), (2, 2, 3), LabelSpec("multilabel", 3)),
            SampleLayout(make_spec(), (2, 2, 3), LabelSpec("class", 3)),
        ),
        (
            SampleLayout(make_spec(), (2, 2, 3), LabelSpec("regression", 3)),
            SampleLayout(make_spec(), (2, 2, 3), LabelSpec("regression", 2)),
        ),
    ],
)
def test_a_shard_of_another_layout_than_the_manifests_is_refused(tmp_path, written, opened):
    _, entry = write_some(tmp_path, written)
    with pytest.raises(DamagedError, match=r"tensors .*, expected|is .* \[.*\], expected"):
        open_shard(tmp_path / NAME, entry, opened)
