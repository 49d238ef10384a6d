"""The Ray engine: a shard's rows as a source, its options, and the errors of nodes. These tests need no cluster;
those that need one are in test_ray_cluster.py.
"""

from __future__ import annotations

import itertools
import os
import pickle
import socket
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.encode.devices import device_kind
from datasets_prep.job import choose_engine, ray_task
from datasets_prep.job.local_engine import LocalEngine
from datasets_prep.job.output import open_output
from datasets_prep.job.plan_job import plan_job
from datasets_prep.job.run import open_context
from datasets_prep.ledger.shard_records import load_rows
from datasets_prep.ledger.table import shard_rows
from datasets_prep.sources.core.shard_source import ShardSource, rows_of, source_facts
from tests.support.planes import plane_codec
from tests.support.trees import contents
from walloc_cdl.codec import ResizeCodec, ResizeConfig
from walloc_cdl.devices import choose_device
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.latents import WORK_NAME

SMALL = PrepareConfig(size=32, shard_samples=5, workers=0)


@pytest.fixture(params=["bytes", "planes"])
def rgb_codec(request):
    if request.param == "planes":
        return plane_codec().with_planes(20)
    return ResizeCodec(ResizeConfig(channels=3, factor=4, name="resize-rgb-16x"))


@pytest.fixture
def source(make_folder):
    root = make_folder()
    (root / "train/dog/01.png").write_bytes(b"-")
    return open_source(str(root))


@pytest.fixture
def planned(source, rgb_codec):
    return plan_job(source, rgb_codec, SMALL)


@pytest.fixture
def node_job(planned, rgb_codec, tmp_path):
    """The shared data of tasks whose data set's folder is `tmp_path/out`."""
    folder = tmp_path / "out"
    (folder / WORK_NAME).mkdir(parents=True)
    plan = open_output(folder, planned.plan, restart=False)
    with ray_task.job_marker(folder) as marker:
        yield ray_task.NodeJob(
            folder=folder,
            marker=marker,
            plan_digest=plan.digest(),
            facts=source_facts(planned.source),
            preparation=planned.preparation,
            codec=rgb_codec,
            config=replace(SMALL, device="cpu"),
            workers=1,
            directory=os.getcwd(),
            engine={"device": device_kind(choose_device("cpu")), "versions": planned.preparation.versions()},
        )
    ray_task._close_resources()


def test_a_task_of_a_stopped_job_leaves_no_files(node_job, planned, monkeypatch):
    """The marker is removed after the first chunk of the shard, and then before the task starts."""
    rows = rows_of(planned.source, planned.plan.shards[0])

    require_marker, checks = ray_task._require_marker, []

    def remove_at_second_check(job):
        checks.append(job)
        if len(checks) == 2:
            job.marker.unlink()
        require_marker(job)

    monkeypatch.setattr(ray_task, "_require_marker", remove_at_second_check)
    for _ in range(2):
        with pytest.raises(JobError, match=r"the job in '.*out' has stopped; start it again to continue$"):
            ray_task.make_shard(node_job, rows)
        assert not node_job.marker.exists()
        assert list(node_job.folder.glob("*")) == [node_job.folder / WORK_NAME]


def test_a_task_makes_the_shard_record_and_ledger_rows_of_the_local_engine(node_job, planned, rgb_codec, tmp_path):
    local = tmp_path / "local"
    (local / WORK_NAME).mkdir(parents=True)
    context = open_context(planned, local, planned.plan, planned.plan.shards, None, 0.0)
    records = list(LocalEngine().encode(context, planned.plan.shards))
    assert len(records) == 6
    sent = pickle.loads(pickle.dumps(node_job))
    for shard, record in zip(planned.plan.shards, records, strict=True):
        rows = pickle.loads(pickle.dumps(rows_of(planned.source, shard)))
        made = ray_task.make_shard(sent, rows)
        assert (made.entry, made.class_counts) == (record.entry, record.class_counts)
        assert (made.num_quarantined, made.source_bytes) == (record.num_quarantined, record.source_bytes)
        np.testing.assert_array_equal(made.histogram, record.histogram)
        assert (node_job.folder / shard.name).read_bytes() == (local / shard.name).read_bytes()
        assert load_rows(node_job.folder / WORK_NAME, shard.name) == load_rows(local / WORK_NAME, shard.name)
    assert sum(record.num_quarantined for record in records) == 1


class InThisProcess:
    """Takes Ray's place: a task runs when it is submitted, and tasks are reported as done in that order."""

    exceptions = SimpleNamespace(RayError=ZeroDivisionError, RayTaskError=ZeroDivisionError)

    def remote(self, function):
        self.function = function
        return SimpleNamespace(options=lambda **needs: SimpleNamespace(remote=self.submit))

    def submit(self, *arguments):
        record = self.function(*arguments)
        return lambda: record

    def put(self, value):
        return value

    def wait(self, references, **limits):
        return references[:1], references[1:]

    def get(self, reference):
        return reference()

    def is_initialized(self):
        return False


def test_progress_reports_the_number_of_concurrent_tasks(source, rgb_codec, tmp_path, monkeypatch):
    """It does so at the start, when the cluster grows, and at the end; it does not report the number of workers."""
    pytest.importorskip("ray")
    from datasets_prep.job import ray_engine

    slots, states = iter([2, 2]), []
    monkeypatch.setattr(ray_engine, "ray", InThisProcess())
    monkeypatch.setattr(ray_engine, "cluster_connection", lambda address: nullcontext())
    monkeypatch.setattr(ray_engine, "num_slots", lambda cpus, gpus: next(slots, 3))
    config = replace(SMALL, engine="ray", workers=7, device="cpu")
    try:
        prepare(source, rgb_codec, tmp_path / "ray", config, progress=states.append)
    finally:
        ray_task._close_resources()
    assert (states[0].done, states[0].worker_status) == (0, "up to 2 tasks at once")
    statuses = [worker_status for worker_status, _ in itertools.groupby(state.worker_status for state in states)]
    assert statuses == [f"up to {tasks} at once" for tasks in ("2 tasks", "3 tasks", "2 tasks", "1 task")]
    prepare(source, rgb_codec, tmp_path / "local", SMALL)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


@pytest.mark.parametrize(("workers", "worker_status"), [(0, "0 workers"), (1, "1 worker"), (2, "2 workers")])
def test_progress_reports_the_number_of_workers(source, rgb_codec, tmp_path, workers, worker_status):
    states = []
    prepare(source, rgb_codec, tmp_path / "out", replace(SMALL, workers=workers), progress=states.append)
    assert {state.worker_status for state in states} == {worker_status}
    assert states[0].done == 0


def test_the_size_of_tasks_does_not_grow_with_the_source(make_folder, rgb_codec):
    sizes = []
    for each in (6, 200):
        root = make_folder(f"photos{each}", each=1)
        for number in range(1, each):
            os.link(root / "train/cat/00.png", root / f"train/cat/{number:02d}.png")
        planned = plan_job(open_source(str(root)), rgb_codec, SMALL)
        sizes.append(len(pickle.dumps(rows_of(planned.source, planned.plan.shards[0]))))
        assert len(pickle.dumps(source_facts(planned.source))) < 500
    assert max(sizes) < 1.02 * min(sizes)


def test_kept_columns_are_sent_with_their_rows(source):
    listing = source.listing.splits["train"]
    columns = pa.table({"camera": [f"c{number}" for number in range(len(listing.keys))]})
    source.listing.splits["train"] = replace(listing, columns=columns)
    shard = replace(plan_job_shard(source), start=3, stop=7)
    part = ShardSource(source_facts(source), pickle.loads(pickle.dumps(rows_of(source, shard))))
    hashes = ["a", "b", None, "d"]
    mine = shard_rows(part, part.shard, {2: "broken"}, hashes)
    assert mine == shard_rows(source, shard, {5: "broken"}, hashes)
    assert mine["camera"].to_pylist() == ["c3", "c4", "c5", "c6"]


def plan_job_shard(source):
    from datasets_prep.samples.planned_shard import PlannedShard

    return PlannedShard("train-00000.safetensors", "train", 0, source.num_samples("train"))


def test_a_node_that_does_not_see_the_folder_raises(node_job, planned, tmp_path):
    rows = rows_of(planned.source, planned.plan.shards[0])
    for folder, digest in ((tmp_path / "elsewhere", node_job.plan_digest), (node_job.folder, "0" * 64)):
        with pytest.raises(JobError, match=r"node \S+ does not see '.*plan.json' of this job; choose an --out on"):
            ray_task.make_shard(replace(node_job, folder=folder, plan_digest=digest), rows)
    assert not (tmp_path / "elsewhere").exists()


def test_a_node_with_other_versions_refuses(node_job, planned):
    rows = rows_of(planned.source, planned.plan.shards[0])
    other = {**node_job.engine, "versions": {**node_job.engine["versions"], "pillow": "1.0"}}
    with pytest.raises(
        JobError, match=r"has versions.pillow '.*', but the machine where the job was started has '1.0'"
    ):
        ray_task.make_shard(replace(node_job, engine=other), rows)
    assert list(node_job.folder.glob("*.safetensors*")) == []


def test_a_node_that_does_not_see_the_source_quarantines_nothing(node_job, planned, tmp_path):
    rows = rows_of(planned.source, planned.plan.shards[0])
    (tmp_path / "photos").rename(tmp_path / "unmounted")
    with pytest.raises(JobError, match=r"photos' is missing; restore it"):
        ray_task.make_shard(node_job, rows)
    assert list(node_job.folder.glob("*.safetensors*")) == []


def test_relative_paths_are_those_of_where_the_job_was_started(node_job, make_folder, rgb_codec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = plan_job(open_source("imagefolder:photos"), rgb_codec, SMALL)
    job = replace(node_job, facts=source_facts(planned.source), directory=str(tmp_path))
    monkeypatch.chdir("/")
    assert ray_task.make_shard(job, rows_of(planned.source, planned.plan.shards[0])).num_quarantined == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"address": "host:6379"}, "address is 'host:6379' with engine 'local'; it needs engine 'ray'"),
        ({"gpus_per_task": 0.5}, "gpus_per_task is 0.5 with engine 'local'"),
        ({"engine": "ray", "cpus_per_task": 0}, "cpus_per_task is 0; expected a number above 0"),
        ({"engine": "ray", "gpus_per_task": 1.5}, "gpus_per_task is 1.5; expected 0, a share of one GPU"),
        ({"engine": "ray", "gpus_per_task": float("nan")}, "gpus_per_task is nan; expected 0"),
    ],
)
def test_settings_that_no_engine_supports_are_refused(settings, message):
    with pytest.raises(CallError, match=message):
        PrepareConfig(**settings)


def test_missing_engines_are_refused_before_anything_is_written(source, rgb_codec, tmp_path, monkeypatch):
    with pytest.raises(CallError, match="unknown engine 'rya'; nearest: ray; choose one of local, ray"):
        prepare(source, rgb_codec, tmp_path / "out", replace(SMALL, engine="rya"))
    monkeypatch.setattr(choose_engine, "find_spec", lambda name: None)
    with pytest.raises(CallError, match=r"needs Ray, which is not installed; run `pip install 'walloc-cdl\[ray\]'`"):
        prepare(source, rgb_codec, tmp_path / "out", replace(SMALL, engine="ray"))
    assert not (tmp_path / "out").exists()


def test_a_cluster_of_the_environment_that_does_not_answer_is_reported_at_once(monkeypatch):
    ray = pytest.importorskip("ray")
    from datasets_prep.job.ray_cluster import cluster_connection

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "init", lambda *arguments, **options: pytest.fail("Ray itself would try for minutes"))
    with (
        pytest.raises(CallError, match=f"no Ray cluster answers at '{address}'; give HOST:PORT"),
        cluster_connection(None),
    ):
        pass
