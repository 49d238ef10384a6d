"""One data set with every odd kind of file; docs/pixels.md lists the result for each."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.decode.images import ImagePreparation
from datasets_prep.decode.pool import DecodePool
from datasets_prep.decode.worker import decode_chunk
from datasets_prep.samples.stored import ReadFailure
from tests.support import odd_inputs
from tests.support.memory import PeakMemory
from tests.support.odd_inputs import SIDE, Absent, Encoded, Quarantined, Stray
from tests.support.paths import ROOT
from tests.support.pictures import encoded, picture
from walloc_cdl import open_latents
from walloc_cdl.codec import ResizeCodec, ResizeConfig

DOCUMENT = ROOT / "docs" / "pixels.md"
ROWS = odd_inputs.odd_inputs()


def shown(name: str) -> str:
    """Return a file name as keys show it."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("odd") / "photos"
    odd_inputs.build(root, ROWS)
    return root


def prepared_by(folder: Path, out: Path, workers: int) -> Path:
    codec = ResizeCodec(ResizeConfig(channels=3, factor=1, name="as-it-is"))
    config = PrepareConfig(size=SIDE, workers=workers, unreadable="quarantine")
    prepare(open_source(f"imagefolder:{folder}?splits=0"), codec, out, config)
    return out


@pytest.fixture(scope="module")
def prepared(folder):
    return prepared_by(folder, folder.parent / "out", workers=0)


@pytest.fixture(scope="module")
def ledger(prepared):
    rows = pq.read_table(prepared / "ledger.parquet").to_pylist()
    return {row["key"].removeprefix("odd/"): row for row in rows if row["key"].startswith("odd/")}


def test_no_output_no_warnings_and_workers_make_no_difference(folder, tmp_path, capfd, recwarn):
    alone, several = (prepared_by(folder, tmp_path / f"out-{workers}", workers) for workers in (0, 2))
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []
    for name in ("train-00000.safetensors", "manifest.json"):
        assert (alone / name).read_bytes() == (several / name).read_bytes()
    assert pq.read_table(alone / "ledger.parquet").equals(pq.read_table(several / "ledger.parquet"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.title}: {ascii(row.name)[1:-1][:40]}")
def test_every_odd_input_has_its_outcome(row, prepared, ledger):
    found = ledger.get(shown(row.name), None)
    outcome = row.outcome
    if isinstance(outcome, Absent):
        assert found is None
    elif isinstance(outcome, Stray | Quarantined):
        assert found["shard"] is None
        assert re.match(outcome.reason, found["reason"]), found["reason"]
        assert "\n" not in found["reason"]
        assert str(prepared.parent) not in found["reason"]
    else:
        assert found["reason"] is None
        stored = open_latents(prepared, split="train")[found["row"]][0].numpy().transpose(1, 2, 0)
        assert isinstance(outcome, Encoded)
        wanted = outcome.pixels if outcome.pixels.ndim == 3 else outcome.pixels[..., None].repeat(3, 2)
        assert np.abs(stored.astype(float) - wanted).mean() <= outcome.tolerance


def test_classes_named_like_splits_are_classes_if_the_source_says_so(prepared):
    assert open_latents(prepared, split="train").class_names == ["odd", "test", "train"]


def test_duplicates_are_marked(ledger):
    assert ledger["twin-2.png"]["duplicate_of"] == "train/odd/twin-1.png"


@pytest.mark.parametrize("title", dict.fromkeys(row.title for row in ROWS))
def test_the_document_has_a_row_for_every_kind(title):
    outcomes = {type(row.outcome) for row in ROWS if row.title == title}
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| {title} |")]
    assert len(lines) == 1
    verbs = {Encoded: "encoded", Quarantined: "quarantined", Stray: "stray", Absent: "left out"}
    assert all(verbs[outcome] in lines[0] for outcome in outcomes)


@pytest.mark.parametrize("row", [row for row in ROWS if isinstance(row.content, bytes)], ids=lambda row: row.title)
def test_memory_is_bounded_by_what_the_pixels_take(row):
    with PeakMemory() as peak:
        decode_chunk([row.content], ImagePreparation(3, SIDE))
    assert peak.num_bytes < 100e6


def test_a_file_without_permission(tmp_path, monkeypatch):
    (tmp_path / "secret.png").write_bytes(encoded(picture(1)))

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)  # the superuser can read everything
    chunk = decode_chunk([tmp_path / "secret.png"], ImagePreparation(3, SIDE))
    assert chunk.reasons == {0: "cannot be read: Permission denied"}
    assert chunk.failures == {0: ReadFailure.REFUSED}
    assert chunk.hashes == [None]


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """Return the data with one to four changes, deletions or insertions, mostly near the beginning."""
    damaged = bytearray(data)
    for _ in range(random.integers(1, 5)):
        position = int(random.integers(min(len(damaged), random.choice([64, 512, len(damaged)]))))
        change = random.integers(3)
        if change == 0:
            damaged[position] ^= 1 << int(random.integers(8))
        elif change == 1:
            damaged[position : position + 4] = random.choice([b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff" * 4, b""])
        else:
            damaged[position:position] = random.bytes(int(random.integers(1, 30)))
    return bytes(damaged)


@pytest.mark.slow
def test_mutated_files_neither_crash_nor_hang_nor_print(capfd):
    random = np.random.default_rng(0)
    seeds = [row.content for row in ROWS if isinstance(row.content, bytes) and 100 < len(row.content) < 400_000]
    tasks = [(number, [mutated(data, random) for data in seeds]) for number in range(50)]
    with DecodePool(2, ImagePreparation(3, SIDE, icc="srgb"), time_limit_s=30) as pool:
        chunks = [chunk for _, chunk in pool.decode(tasks)]
    reasons = [reason for chunk in chunks for reason in chunk.reasons.values()]
    assert not [reason for reason in reasons if re.search("crashed|took longer|of memory", reason)]
    assert 100 < len(reasons) < len(tasks) * len(seeds)
    assert capfd.readouterr() == ("", "")
