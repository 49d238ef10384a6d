"""Shards of latents with bit planes: rows or codes are written, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.any_samples import draw_any, draw_codes, write_any_set
from tests.support.planes import plane_orders, spec_of
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.latents import (
    LabelSpec,
    SampleLayout,
    ShardWriter,
    load_manifest,
    manifest_bytes,
    manifest_from_json,
    open_shard,
    verify,
    write_shard,
)
from walloc_cdl.latents.statistics import channel_statistics, code_histogram, prefix_histogram
from walloc_cdl.planes.levels import LevelTables
from walloc_cdl.planes.rows import pack_rows, row_bytes, unpack_rows

NAME = "train-00000.safetensors"
SPEC = spec_of((0, 1, 0, 1, 1))
LAYOUT = SampleLayout(SPEC, (2, 3, 3))


def write(folder, layout, codes):
    keys = [str(row) for row in range(len(codes))]
    return write_shard(
        folder, NAME, spec=layout.spec, split="train", layout=layout, codes=codes, labels=None, keys=keys
    )


@pytest.mark.parametrize("kind", ["image", "audio"])
@pytest.mark.parametrize("views", [1, 3])
def test_rows_and_codes_make_the_same_shard(tmp_path, kind, views):
    spec = spec_of(SPEC.planes, kind=kind)
    layout = SampleLayout(spec, (2, 3, 3) if kind == "image" else (2, 11), num_views=views)
    codes = draw_codes(np.random.default_rng(0), spec, (4, *layout.sample_shape))
    rows = pack_rows(codes.reshape(-1, *layout.latent_shape), spec.planes).reshape(4, *layout.stored_shape)
    assert rows.shape[-1] == row_bytes(spec, layout.grid)
    entry = write(tmp_path, layout, codes)
    first = (tmp_path / NAME).read_bytes()
    assert write(tmp_path, layout, rows) == entry
    assert (tmp_path / NAME).read_bytes() == first
    shard = open_shard(tmp_path / NAME, entry, layout)
    np.testing.assert_array_equal(shard.codes, rows)
    np.testing.assert_array_equal(shard.stored(2), rows[2])
    np.testing.assert_array_equal(shard.sample_codes(2), codes[2])
    np.testing.assert_array_equal(shard.histogram(), code_histogram(codes.reshape(-1, *layout.latent_shape), 2))


def test_a_ragged_sample_is_the_row_of_its_own_grid(tmp_path):
    layout = SampleLayout(SPEC, (2, None, None))
    drawn = draw_any(np.random.default_rng(0), layout, 5)
    entry = write_shard(tmp_path, NAME, spec=SPEC, split="train", layout=layout, **{"labels": None, **drawn.rows(0, 5)})
    shard = open_shard(tmp_path / NAME, entry, layout)
    for row, codes in enumerate(drawn.codes):
        assert shard.stored(row).tobytes() == pack_rows(codes[None], SPEC.planes).tobytes()
        np.testing.assert_array_equal(shard.sample_codes(row), codes)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.full((1, 2, 3, 3), 4, np.uint8), "code 4 of channel 0, expected 0 to 3; encode with the codec"),
        (np.zeros((1, 2, 3, 4), np.uint8), r"codes are uint8 \[1, 2, 3, 4\], expected uint8 \[N, 2, 3, 3\]"),
        (np.zeros((1, 9), np.uint8), r"rows are uint8 \[1, 9\], expected uint8 \[N, 10\]"),
        (np.zeros((1, 10)), r"rows are float64 \[1, 10\]"),
        (np.full((1, 10), 255, np.uint8), "1 rows with padding bits that are not zero"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path, codes, message):
    with pytest.raises(CallError, match=f"{NAME}: {message}"):
        write(tmp_path, LAYOUT, codes)


def test_padding_bits_are_found_by_a_full_check(tmp_path, monkeypatch):
    """A shard whose checksums agree with rows that nobody may write."""
    layout = SampleLayout(SPEC, (2, 3, 3), LabelSpec())
    monkeypatch.setattr("walloc_cdl.latents.validation.has_padding_bits", lambda rows, *_: np.zeros(len(rows), bool))
    write_any_set(tmp_path, layout, {"train": [3]})
    assert verify(tmp_path, full=True).problems == []
    manifest = load_manifest(tmp_path)
    shard = open_shard(tmp_path / NAME, manifest.shards[0], layout)
    rows = shard.codes.copy()
    rows[1, 3] |= 0x80
    entry = write_shard(
        tmp_path, NAME, spec=SPEC, split="train", layout=layout, codes=rows, labels=None, keys=shard.keys(range(3))
    )
    data = manifest_bytes(replace(manifest, shards=[entry]))
    for name in ("manifest.json", "copy/manifest.json"):
        (tmp_path / name).write_bytes(data)
    assert verify(tmp_path).problems == []
    (problem,) = verify(tmp_path, full=True).problems
    assert "1 samples with padding bits that are not zero" in problem


def test_a_manifest_counts_no_code_beyond_a_channels_bits(tmp_path):
    write_any_set(tmp_path, LAYOUT, {"train": [3]})
    fields = load_manifest(tmp_path).to_json()
    counts = fields["histograms"]["train"][0]
    counts[4], counts[0] = counts[0], 0
    with pytest.raises(DamagedError, match="m: split 'train': histogram counts code 4 of channel 0, which has 2 bits"):
        manifest_from_json(fields, origin="m")


def test_the_longest_order_of_planes_fits_a_header(tmp_path):
    planes = tuple(channel for channel in range(4096) for _ in range(8))
    layout = SampleLayout(spec_of(planes, source_channels=64), (4096, 1, 1))
    entry = write(tmp_path, layout, np.full((1, 4096, 1, 1), 255, np.uint8))
    assert open_shard(tmp_path / NAME, entry, layout).sample_codes(0).min() == 255


def levels_for(spec):
    """Levels that are all different, and sorted."""
    rng = np.random.default_rng(0)
    tables = [
        (
            np.sort(rng.standard_normal(2**bits - 1)),
            [np.sort(rng.standard_normal(2**count)) for count in range(bits + 1)],
        )
        for bits in spec.channel_bits
    ]
    return LevelTables.of_channels(tables)


@settings(max_examples=60, deadline=None)
@given(planes=plane_orders(), data=st.data())
def test_statistics_of_a_prefix_are_those_of_its_codes(planes, data):
    spec = spec_of(planes)
    prefix = spec.with_planes(data.draw(st.integers(1, len(planes))))
    codes = draw_codes(np.random.default_rng(1), spec, (5, spec.latent_channels, 3, 3))
    coarse = unpack_rows(pack_rows(codes, planes), prefix.planes, (3, 3))
    histogram = prefix_histogram(code_histogram(codes, spec.latent_channels), spec, prefix)
    np.testing.assert_array_equal(histogram, code_histogram(coarse, prefix.latent_channels))
    levels = levels_for(spec)
    statistics = channel_statistics(histogram, prefix, levels)
    table = levels.values_table(prefix.channel_bits)
    for channel in range(prefix.latent_channels):
        values = table[channel][coarse[:, channel]]
        assert statistics.mean[channel] == pytest.approx(values.mean())
        assert statistics.std[channel] == pytest.approx(values.std(), abs=1e-6)


def test_a_writer_takes_rows_and_codes_in_turn(tmp_path):
    codes = draw_codes(np.random.default_rng(0), SPEC, (4, 2, 3, 3))
    with ShardWriter(tmp_path, NAME, layout=LAYOUT, split="train", capacity=4) as writer:
        writer.append(codes[:2], None, ["a", "b"])
        writer.append(pack_rows(codes[2:], SPEC.planes), None, ["c", "d"])
        entry, histogram = writer.finish()
    np.testing.assert_array_equal(histogram, code_histogram(codes, 2))
    shard = open_shard(tmp_path / NAME, entry, LAYOUT)
    np.testing.assert_array_equal(shard.checksums(), shard.crc32c)
    np.testing.assert_array_equal([shard.sample_codes(row) for row in range(4)], codes)
