"""Thousands of altered metadata files: each gives a clear error or the right data, in bounded time and memory.

A mutated file is read by the functions that commands call. Files with a digest get a new, valid one after most changes,
since whoever writes such a file can also compute it.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import time
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from classifiers import Metrics, TrainConfig, create_model, load_classifier, train
from classifiers.cli.learning import metric_rows
from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.archives.description import index_bytes, load_description, load_index
from datasets_prep.archives.export import export_archives
from datasets_prep.exports.description import load_export
from datasets_prep.exports.export import export_latents
from datasets_prep.folders import locks
from datasets_prep.folders.derived_folder import derive
from datasets_prep.hub.card import dataset_card
from datasets_prep.job.output import finished_manifest, open_output
from datasets_prep.job.plan import load_plan
from datasets_prep.ledger.index import LedgerIndex
from datasets_prep.ledger.rewrite import ledger_parts, rewrite_rows, stored_ledger_schema, write_edited_ledger
from datasets_prep.ledger.shard_records import load_record, load_rows, require_fitting, save_record
from datasets_prep.streaming.reservoir import Reservoir
from datasets_prep.streaming.split_sizes import load_split_sizes, save_split_sizes
from datasets_prep.upkeep.drop import drop
from datasets_prep.upkeep.edit import note_edit
from datasets_prep.upkeep.encode_again import RepairConfig, _stored_keys, planned_job
from datasets_prep.upkeep.repair import repair
from experiments.comparison.results import load_results, save_results
from experiments.report.table import markdown
from experiments.report.write import write_report
from tests.support.altered_folders import altered_tensors
from tests.support.memory import PeakMemory
from tests.support.mutations import ODD, altered_bytes, altered_fields, altered_json, altered_table
from tests.support.pictures import picture
from tests.support.results import make_results
from tests.support.tiny_datasets import identity_layer, make_spec, random_bank, striped_split, write_dataset
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.cli.dataset import inspect
from walloc_cdl.codec import ResizeCodec, ResizeConfig
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CdlError
from walloc_cdl.latents import FileEntry, load_manifest, load_provenance, verify
from walloc_cdl.latents.checks.ledger_keys import ledger_keys
from walloc_cdl.training import LoopConfig, RunFolder, TrainingLoop, run_epochs
from walloc_cdl.training.checkpoint import with_digest

pytestmark = pytest.mark.slow

LIMIT_S = 2.0
FREE_BYTES = 64 * 2**20
MAX_MESSAGE = 2000
CODEC = ResizeCodec(ResizeConfig(channels=3, factor=4, name="resize-rgb-16x"))
SMALL = PrepareConfig(size=16, shard_samples=3, workers=0)
Read = Callable[[], Any]
Mutate = Callable[[bytes, random.Random], bytes]


class StopError(Exception):
    """What interrupts a job."""


def sealed(data: bytes, draw: random.Random) -> bytes:
    return altered_json(data, draw, sealed=True)


def plain(data: bytes, draw: random.Random) -> bytes:
    return altered_json(data, draw, sealed=False)


def attempt(read: Read, num_bytes: int, what: str) -> bool:
    """Return whether `read` succeeds; if not, it must give an error of ours, in one line, in bounded time."""
    refusal, start = None, time.process_time()
    with PeakMemory() as memory:
        try:
            read()
        except CdlError as error:
            refusal = str(error)
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {str(error)[:300]}") from error
    assert time.process_time() - start < LIMIT_S, what
    assert memory.num_bytes < FREE_BYTES + 16 * num_bytes, what
    if refusal is None:
        return True
    assert refusal, what
    assert "\n" not in refusal, what
    assert len(refusal) < MAX_MESSAGE, (what, len(refusal))
    return False


def fuzz(path: Path, count: int, mutate: Mutate, read: Read) -> int:
    """Read `count` mutations of the file at `path`, then the file itself; returns the number of successes."""
    original = path.read_bytes()
    read()  # memory that a first call takes for good is not measured
    successes = 0
    for seed in range(count):
        data = mutate(original, random.Random(seed))
        path.write_bytes(data)
        successes += attempt(read, len(data), f"{path.name}, seed {seed}")
    path.write_bytes(original)
    read()
    return successes


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("metadata") / "photos"
    for number in range(14):
        folder = root / ("test" if number > 9 else "train") / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        picture(number % 12, 24, 20).save(folder / f"{number:02d}.png")
    (root / "train/cat/bad.png").write_bytes(b"no image")
    (root / "notes.txt").write_text("stray")
    return root


@pytest.fixture(scope="module")
def prepared(photos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "set"
    prepare(open_source(str(photos)), CODEC, out, SMALL)
    return out


@pytest.fixture
def folder(prepared, tmp_path) -> Path:
    """A data set with everything that `prepare` writes."""
    return shutil.copytree(prepared, tmp_path / "set")


@pytest.fixture
def unfinished(photos, tmp_path) -> Path:
    """The folder of a job that was stopped after its last shard."""

    def stop(state: Any) -> None:
        if state.note.startswith("fitting") or state.note.startswith("writing"):
            raise StopError

    with pytest.raises(StopError):
        prepare(open_source(str(photos)), CODEC, tmp_path / "out", SMALL, progress=stop)
    return tmp_path / "out"


def test_manifests(folder, photos, tmp_path):
    plan = load_manifest(folder)
    source = open_source(str(photos))
    config = RepairConfig(source, workers=0)

    def read() -> None:
        for split in ("train", "test"):
            dataset = open_latents(folder, split)
            dataset.keys(range(len(dataset)))
            _ = dataset.labels, dataset.statistics, dataset[0]
        with redirect_stdout(io.StringIO()):
            inspect(folder, None)
        manifest = load_manifest(folder)
        planned_job(folder, manifest, {}, CODEC, config)
        dataset_card(manifest, "owner/name")

    assert plan.splits
    assert fuzz(folder / "manifest.json", 2500, sealed, read) < 1250


def test_manifests_of_finished_jobs(folder, unfinished):
    plan = load_plan(unfinished / "_work")
    fuzz(folder / "manifest.json", 700, sealed, lambda: finished_manifest(folder, plan, restart=False))
    fuzz(folder / "manifest.json", 300, sealed, lambda: verify(folder))


def test_provenance(folder, photos, tmp_path):
    manifest = load_manifest(folder)
    config = RepairConfig(open_source(str(photos)), workers=0)

    def read() -> None:
        engine = (load_provenance(folder) or {}).get("engine") or {}
        planned_job(folder, manifest, engine, CODEC, config)
        note_edit(folder, tmp_path, "split")

    fuzz(folder / "provenance.json", 1200, sealed, read)
    fuzz(folder / "provenance.json", 300, sealed, lambda: verify(folder, full=True))


def test_ledgers(folder, tmp_path):
    """With the hash of the altered ledger in the manifest, so that it is read."""
    manifest, path = load_manifest(folder), folder / "ledger.parquet"
    table = pq.read_table(path)

    def mutate(data: bytes, draw: random.Random) -> bytes:
        if draw.random() < 0.4:
            return altered_bytes(data, draw)
        sink = io.BytesIO()
        altered = altered_table(table, draw)
        pq.write_table(altered, sink, compression="zstd", row_group_size=max(1, draw.choice((1, 4, 100))))
        return sink.getvalue()

    def read() -> None:
        data = path.read_bytes()
        entry = FileEntry(len(data), sha256_hex(data))
        listed = replace(manifest, files={**manifest.files, "ledger.parquet": entry})
        reader = data[len(data) // 2] % 4 if data else 0  # each takes some milliseconds
        if reader == 0:
            ledger_keys(path, manifest.shards[0].name, range(3))
            LedgerIndex(ledger_parts(folder, listed))
        elif reader == 1:
            _stored_keys(folder, listed, listed.shards)
            stored_ledger_schema(folder, listed)
        elif reader == 2:
            for part in ledger_parts(folder, listed):
                rewrite_rows(part, dict)
        else:
            num_rows = sum(part.num_rows for part in ledger_parts(folder, listed))
            schema = stored_ledger_schema(folder, listed)
            write_edited_ledger(tmp_path / "ledger.parquet", lambda: ledger_parts(folder, listed), num_rows, schema)

    fuzz(path, 3000, mutate, read)


def test_ledgers_that_expand(folder):
    """A few bytes that stand for many rows, or many long texts."""
    manifest, path = load_manifest(folder), folder / "ledger.parquet"
    table = pq.read_table(path)
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x" * 1_000_000]))
    many = table.take(pa.array([0] * 3_000_000, pa.int64()))
    keys = table.take(pa.array([0] * 2000, pa.int64()))
    position = keys.column_names.index("key")
    for altered in (many, keys.set_column(position, "key", long), keys.append_column("kept", long)):
        pq.write_table(altered, path, compression="zstd", row_group_size=3_000_000, store_schema=False)
        data = path.read_bytes()
        listed = replace(manifest, files={"ledger.parquet": FileEntry(len(data), sha256_hex(data))})
        del altered

        def read(listed: Any = listed) -> None:
            LedgerIndex(ledger_parts(folder, listed))

        assert not attempt(read, len(data), "a ledger that expands")


def test_repairs_and_drops(folder, tmp_path):
    """Whole commands on folders with an altered file."""
    manifest = load_manifest(folder)
    for seed in range(40):
        draw = random.Random(seed)
        name = draw.choice(("manifest.json", "copy/manifest.json", "provenance.json", "copy/provenance.json"))
        copy = shutil.copytree(folder, tmp_path / "copy")
        data = sealed((copy / name).read_bytes(), draw)
        (copy / name).write_bytes(data)
        attempt(lambda copy=copy: repair(copy), len(data), f"repair of {name}, seed {seed}")
        attempt(lambda copy=copy: drop(copy, ["train/cat/01.png"]), len(data), f"drop with {name}, seed {seed}")
        shutil.rmtree(copy)
    assert load_manifest(folder).to_json() == manifest.to_json()


def test_edit_records(folder):
    """The record of an edit whose stage has no manifest, so that only cleaning up remains."""
    from datasets_prep.upkeep import edit
    from walloc_cdl.latents.json_with_digest import encode_json_with_digest

    work = folder / "_work"
    record = {"format": edit.FORMAT, "format_version": 1, "place": ["a"], "remove": ["b"], "clear": ["c"]}
    data = encode_json_with_digest({**record, "manifest_sha256": "0" * 64})

    def read() -> None:
        work.mkdir(exist_ok=True)
        (work / "edit.json").write_bytes(current)
        edit.recover(folder, trusted=draw.random() < 0.9)

    for seed in range(600):
        draw = random.Random(seed)
        current = sealed(data, draw)
        attempt(read, len(current), f"edit.json, seed {seed}")
    assert verify(folder).problems == []


def test_plans(unfinished):
    plan = load_plan(unfinished / "_work")
    stored = (unfinished / "_work/plan.json").read_bytes()
    stream = replace(plan, shards=(), source={"name": "s", "streaming": True, "limit": None, "splits": ["train"]})

    def read() -> None:
        found = load_plan(unfinished / "_work")
        found.shard_names(["train-00000.safetensors"])
        _ = found.num_samples, found.digest()

    fuzz(unfinished / "_work/plan.json", 1200, sealed, read)
    fuzz(unfinished / "_work/plan.json", 500, sealed, lambda: open_output(unfinished, plan, restart=False))
    from datasets_prep.job.plan import save_plan

    save_plan(unfinished / "_work", stream)
    fuzz(unfinished / "_work/plan.json", 500, sealed, read)
    (unfinished / "_work/plan.json").write_bytes(stored)


def test_records_of_shards(unfinished, tmp_path):
    work = unfinished / "_work"
    plan = load_plan(work)
    shard = plan.shards[0]
    path, rows_path = work / f"{Path(shard.name).stem}.json", work / f"{Path(shard.name).stem}.parquet"

    def read() -> None:
        if (record := load_record(unfinished, work, shard, plan.digest())) is not None:
            require_fitting(record, 3, 2)
            np.zeros((3, 256), np.int64).__iadd__(record.histogram)
            load_rows(work, shard.name, num_rows=shard.num_samples)

    fuzz(path, 1300, sealed, read)
    table = pq.read_table(rows_path)
    record = load_record(unfinished, work, shard, plan.digest())
    assert record is not None

    def mutate(data: bytes, draw: random.Random) -> bytes:
        if draw.random() < 0.4:
            return altered_bytes(data, draw)
        sink = io.BytesIO()
        pq.write_table(altered_table(table, draw), sink, compression="zstd")
        return sink.getvalue()

    def read_rows() -> None:
        load_rows(work, shard.name, ["key", "row"])
        load_rows(work, shard.name, num_rows=shard.num_samples)

    fuzz(rows_path, 1200, mutate, read_rows)
    save_record(work, plan.digest(), record, table)


def test_jobs_are_resumed_with_altered_records(unfinished, photos, tmp_path):
    """Whole calls of `prepare` give the data set of an undisturbed job, or an error."""
    source = open_source(str(photos))
    names = sorted(path.name for path in (unfinished / "_work").iterdir() if path.suffix in (".json", ".parquet"))
    prepare(source, CODEC, tmp_path / "whole", SMALL)
    expected = (tmp_path / "whole/manifest.json").read_bytes()
    successes = 0
    for seed in range(25):
        draw = random.Random(seed)
        copy = shutil.copytree(unfinished, tmp_path / "copy")
        path = copy / "_work" / draw.choice(names)
        data = sealed(path.read_bytes(), draw) if path.suffix == ".json" else altered_bytes(path.read_bytes(), draw)
        path.write_bytes(data)
        if attempt(lambda copy=copy: prepare(source, CODEC, copy, SMALL), len(data), f"{path.name}, seed {seed}"):
            assert (copy / "manifest.json").read_bytes() == expected, f"{path.name}, seed {seed}"
            successes += 1
        shutil.rmtree(copy)
    assert successes > 5


def test_records_of_streams_and_derived_folders(tmp_path):
    save_split_sizes(tmp_path, "0" * 64, {"train": 5, "test": 0})
    fuzz(tmp_path / "ends.json", 500, sealed, lambda: load_split_sizes(tmp_path, "0" * 64))
    reservoir = Reservoir(tmp_path, 2)
    with reservoir.of_shard("train-00000.safetensors"):
        for index in range(3):
            reservoir.offer("train", f"key {index}", index, "train-00000.safetensors", b"content")

    def slices() -> None:
        reservoir._offsets.clear()
        for each in reservoir.slices("train").values():
            assert each.offset >= 0
            assert each.num_bytes >= 0

    fuzz(tmp_path / "kept/train-00000.json", 500, sealed, slices)
    state = {"job": "pull", "manifest": "0" * 64}

    def stop() -> None:
        raise StopError

    def resume() -> None:
        with suppress(StopError):
            derive(tmp_path / "derived", state, lambda: None, stop)

    resume()
    fuzz(tmp_path / "derived/_work/state.json", 300, sealed, resume)
    with locks.job_lock(tmp_path / "locked"):
        fuzz(
            tmp_path / "locked/locks/job.lock", 500, plain, lambda: locks._signature(tmp_path / "locked/locks/job.lock")
        )


def test_descriptions_of_exports_and_archives(folder, tmp_path):
    export_latents(folder, tmp_path / "export", "npy")
    fuzz(tmp_path / "export/walloc-cdl.json", 900, sealed, lambda: load_export(tmp_path / "export"))
    export_archives(folder, tmp_path / "archives")
    path = tmp_path / "archives"
    fuzz(path / "archives.json", 900, sealed, lambda: load_description(path))
    name, entry = next(iter(load_description(path).indices.items()))
    index = (
        next((path / "index").iterdir())
        if not (path / "index" / f"{Path(name).stem}.json").is_file()
        else (path / "index" / f"{Path(name).stem}.json")
    )
    assert entry.num_bytes == index.stat().st_size
    assert index_bytes(name, load_index(path, name, entry)) == index.read_bytes()

    def read() -> None:
        data = index.read_bytes()
        load_index(path, name, FileEntry(len(data), sha256_hex(data)))

    fuzz(index, 900, sealed, read)


@pytest.fixture(scope="module")
def striped(tmp_path_factory) -> Path:
    spec = make_spec(latent_channels=3, stride=2, companding="none")
    return write_dataset(
        tmp_path_factory.mktemp("striped") / "set",
        spec,
        {"train": striped_split(spec, 32, 16, 1), "validation": striped_split(spec, 16, 16, 2)},
        bank={1: identity_layer(), 2: random_bank(spec)[2]},
    )


QUICK = TrainConfig(epochs=1, batch_size=32, precision="fp32")


def train_again(striped: Path, run: Path) -> Any:
    train_set, validation = open_latents(striped, "train"), open_latents(striped, "validation")
    return train(lambda: create_model("test_resnet", train_set), train_set, validation, QUICK, run)


@pytest.fixture
def run(striped, tmp_path) -> Path:
    train_again(striped, tmp_path / "run")
    return tmp_path / "run"


def test_runs(run, striped):
    stored = json.loads((run / "config.json").read_text())
    config = {name: value for name, value in stored.items() if not name.startswith("format")}

    def resume() -> None:
        RunFolder(run).claim(config, resume=True)
        record = RunFolder(run).load_record(Metrics)
        if record.metrics is not None:
            metric_rows(record.metrics, "validation", None, None)
        assert record.losses

    fuzz(run / "config.json", 1300, plain, resume)
    fuzz(run / "record.json", 1700, plain, resume)
    for name in ("config.json", "record.json"):
        fuzz(run / name, 60, plain, lambda: load_classifier(run))
    fuzz(run / "record.json", 40, plain, lambda: train_again(striped, run))


def test_checkpoints(striped, tmp_path):
    from torch import nn

    from walloc_cdl.data import LatentLoader

    dataset = open_latents(striped, "train")
    folder = RunFolder(tmp_path / "run")
    folder.claim({"of": "mean"}, resume=True)

    def loop() -> TrainingLoop:
        config = LoopConfig(epochs=1, batch_size=16)
        model = nn.Sequential(nn.Flatten(), nn.Linear(768, 1))
        loader = LatentLoader(dataset, 16, prefetch=0)
        return TrainingLoop(
            model,
            lambda codes, targets, words: model(codes.float() / 255).square().mean(),
            loader,
            config,
            device=torch.device("cpu"),
        )

    run_epochs(loop(), folder)

    def resume() -> None:
        resumed = loop()
        run_epochs(resumed, folder)
        assert resumed.epoch == 1
        assert all(value.isfinite().all() for value in resumed.weights().values())

    fuzz_resumption(folder.checkpoint_path, 1500, resume)


def fuzz_resumption(path: Path, count: int, read: Read) -> None:
    """Like `fuzz`, for a file that a successful call may replace."""
    original = path.read_bytes()
    read()
    for seed in range(count):
        data = altered_tensors(original, random.Random(seed))
        if seed % 4:  # so that what follows the check of the digest is reached
            data = with_digest(data)
        path.write_bytes(data)
        attempt(read, len(data), f"{path.name}, seed {seed}")


def test_weights_of_runs(run):
    """With the hash of the altered weights in the record, so that they are read."""
    record = json.loads((run / "record.json").read_text())
    original = (run / "model.safetensors").read_bytes()
    for seed in range(60):
        data = altered_tensors(original, random.Random(seed))
        (run / "model.safetensors").write_bytes(data)
        (run / "record.json").write_text(json.dumps({**record, "weights_sha256": sha256_hex(data)}))

        def read() -> None:
            state = load_classifier(run).state_dict()
            assert all(value.isfinite().all() for value in state.values())

        attempt(read, len(data), f"weights, seed {seed}")


def test_results_of_comparisons(tmp_path):
    results = make_results(12, 2)
    save_results(results, tmp_path)
    path = tmp_path / "results.json"

    def table() -> None:
        markdown(load_results(tmp_path))

    fuzz(path, 2000, plain, table)
    fuzz(path, 40, plain, lambda: write_report(load_results(tmp_path), tmp_path))
    assert load_results(tmp_path).answer == results.answer


def test_odd_values_are_odd():
    """The values that fields get are what the mutations promise."""
    assert any(value == 10**400 for value in ODD)
    assert altered_fields({"a": 1}, random.Random(0), ODD) != {"a": 1}
