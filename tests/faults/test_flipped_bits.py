"""Any flipped bit of a data set is located and repaired to the same bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.upkeep.encode_again import RepairConfig
from datasets_prep.upkeep.repair import repair
from tests.support.pictures import picture
from tests.support.planes import plane_codec
from walloc_cdl.codec import ResizeCodec, ResizeConfig
from walloc_cdl.latents import load_manifest, open_shard, verify

CODEC = ResizeCodec(ResizeConfig(channels=3, factor=4, name="resize-rgb-16x"))
NUM_REPAIRED = 60


def flip(path: Path, bit: int) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def rows_of_codes(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return for each shard the offset of its codes, the bytes of a sample's codes, and the number of samples."""
    manifest, found = load_manifest(folder), {}
    for entry in manifest.shards:
        shard = open_shard(folder / entry.name, entry, manifest.layout)
        begin = shard.codes.__array_interface__["data"][0] - shard.file.__array_interface__["data"][0]
        found[entry.name] = (begin, shard.codes.nbytes // len(shard), len(shard))
    return found


@pytest.mark.parametrize("num_flips", [60, pytest.param(2400, marks=pytest.mark.slow)])
@pytest.mark.parametrize("packed", [False, True])
def test_a_flipped_bit_is_located_and_repaired(tmp_path, num_flips, packed):
    photos, out = tmp_path / "photos", tmp_path / "out"
    for number in range(12):
        folder = photos / ("test" if number % 4 == 0 else "train") / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture(number, 40, 36).save(folder / f"{number:02d}.png")
    source = open_source(str(photos))
    codec = plane_codec() if packed else CODEC
    prepare(source, codec, out, PrepareConfig(size=16, shard_samples=4, workers=0))
    before = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    codes, draw, names = rows_of_codes(out), random.Random(0), sorted(before)
    num_named = num_repaired = 0
    for number in range(num_flips):
        name = names[number % len(names)]
        bit = draw.randrange(8 * len(before[name]))
        flip(out / name, bit)
        report = verify(out, full=True)
        what = f"bit {bit} of {name}: {report.problems}"
        assert report.damaged_files == [name], what
        assert str(out / name) in report.problems[0], what
        begin, each, count = codes.get(name, (0, 1, 0))
        if 0 <= (row := (bit // 8 - begin) // each) < count:
            assert [sample.row for sample in report.damaged_samples] == [row], what
            assert report.damaged_samples[0].key in report.problems[-1], what
            num_named += 1
        if number % (num_flips // NUM_REPAIRED) == 0:
            result = repair(out, RepairConfig(source, workers=0))
            assert result.problems == [], what
            assert (result.encoded or result.restored) == [name], what
            num_repaired += 1
        else:
            (out / name).write_bytes(before[name])
        assert (out / name).read_bytes() == before[name], what
    found = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert found == before
    assert num_named > num_flips / 60
    assert num_repaired >= NUM_REPAIRED
