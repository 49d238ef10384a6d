"""The way of one image from `prepare` into a shard, as CONTRIBUTING.md tells it: ten files, found by the calls."""

from __future__ import annotations

import inspect
import traceback

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.job import local_engine
from tests.support.paths import ROOT
from tests.support.pictures import picture
from walloc_cdl.codec import load_codec
from walloc_cdl.kernels.cpu import resample
from walloc_cdl.kernels.cpu.fused import FusedEncoder
from walloc_cdl.latents import ShardWriter

WAY = {
    "datasets_prep/prepare_local.py",
    "datasets_prep/job/run.py",
    "datasets_prep/job/local_engine.py",
    "datasets_prep/decode/pool.py",
    "datasets_prep/decode/worker.py",
    "datasets_prep/decode/images.py",
    "walloc_cdl/kernels/cpu/resample.py",
    "walloc_cdl/kernels/cpu/fused.py",
    "walloc_cdl/latents/writer.py",
    "datasets_prep/ledger/shard_records.py",
}
ENDS = [(resample, "resample"), (FusedEncoder, "encode"), (ShardWriter, "append"), (local_engine, "save_record")]
"""Where the image is resized, encoded, written and recorded."""


def test_an_image_comes_into_its_shard_by_ten_files(tmp_path, monkeypatch):
    (tmp_path / "photos/train/cat").mkdir(parents=True)
    picture(1, 80, 60).save(tmp_path / "photos/train/cat/1.png")
    source, files, reached = open_source(str(tmp_path / "photos")), set(), set()

    def noted(owner, name):
        call = getattr(owner, name)

        def note(*arguments, **options):
            if name not in reached:  # the end of the job decodes the image once more
                reached.add(name)
                files.update(frame.filename for frame in traceback.extract_stack())
                files.add(inspect.getsourcefile(inspect.unwrap(call)))
            return call(*arguments, **options)

        monkeypatch.setattr(owner, name, note)

    for owner, name in ENDS:
        noted(owner, name)
    prepare(source, load_codec("rgb-16x"), tmp_path / "out", PrepareConfig(size=64, workers=0, device="cpu"))
    assert reached == {name for _, name in ENDS}
    ours = {file.removeprefix(f"{ROOT}/") for file in files if file.startswith(f"{ROOT}/")}
    assert {file for file in ours if file.startswith(("datasets_prep/", "walloc_cdl/"))} == WAY
    assert len(WAY) == 10
