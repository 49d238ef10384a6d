"""The path of an image from `prepare` into a shard, as CONTRIBUTING.md describes it: eleven files, found by calls."""

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

PATH = {
    "datasets_prep/prepare_local.py",
    "datasets_prep/job/run.py",
    "datasets_prep/job/local_engine.py",
    "datasets_prep/decode/pool.py",
    "datasets_prep/decode/worker.py",
    "datasets_prep/decode/images.py",
    "walloc_cdl/kernels/cpu/resample.py",
    "walloc_cdl/kernels/cpu/detached.py",
    "walloc_cdl/kernels/cpu/fused.py",
    "walloc_cdl/latents/writer.py",
    "datasets_prep/ledger/shard_records.py",
}
TRACED = [(resample, "resample"), (FusedEncoder, "encode"), (ShardWriter, "append"), (local_engine, "save_record")]
"""The functions that resize, encode, write and record the image."""


def test_an_image_reaches_its_shard_through_eleven_files(tmp_path, monkeypatch):
    (tmp_path / "photos/train/cat").mkdir(parents=True)
    picture(1, 80, 60).save(tmp_path / "photos/train/cat/1.png")
    source, files, reached = open_source(str(tmp_path / "photos")), set(), set()

    def trace(module_or_class, name):
        call = getattr(module_or_class, name)

        def traced(*arguments, **options):
            if name not in reached:  # the job decodes the image again at its end
                reached.add(name)
                files.update(frame.filename for frame in traceback.extract_stack())
                files.add(inspect.getsourcefile(inspect.unwrap(call)))
            return call(*arguments, **options)

        monkeypatch.setattr(module_or_class, name, traced)

    for module_or_class, name in TRACED:
        trace(module_or_class, name)
    prepare(source, load_codec("rgb-16x"), tmp_path / "out", PrepareConfig(size=64, workers=0, device="cpu"))
    assert reached == {name for _, name in TRACED}
    project_files = {file.removeprefix(f"{ROOT}/") for file in files if file.startswith(f"{ROOT}/")}
    assert {file for file in project_files if file.startswith(("datasets_prep/", "walloc_cdl/"))} == PATH
    assert len(PATH) == 11
