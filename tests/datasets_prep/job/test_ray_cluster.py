"""Jobs on simulated clusters give the bytes of the local engine when nodes are lost, and leave no process running."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from tests.support.planes import plane_codec
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.latents import load_provenance, verify

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

STORE_BYTES = 80 * 2**20
CONFIG = PrepareConfig(size=32, shard_samples=4, workers=0, device="cpu")


@pytest.fixture(autouse=True)
def quiet_ray(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_enable_metrics_collection", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def two_nodes():
    """A cluster of a head node and another node, with one CPU each."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    second = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    yield cluster, second
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def source(make_folder):
    root = make_folder(each=12)
    (root / "train/dog/01.png").write_bytes(b"-")
    return open_source(str(root))


@pytest.fixture
def rgb_codec():
    """A codec with bit planes; `test_ray` has one with byte codes, too."""
    return plane_codec().with_planes(20)


def hashes(folder: Path) -> dict[str, str]:
    names = [*(path.name for path in folder.glob("*.safetensors")), "manifest.json", "ledger.parquet"]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def test_every_way_of_running_a_job_gives_the_same_bytes(source, rgb_codec, tmp_path, two_nodes):
    cluster, second = two_nodes
    for workers in (1, 2):
        prepare(source, rgb_codec, tmp_path / f"local{workers}", replace(CONFIG, workers=workers))
    expected = hashes(tmp_path / "local1")
    assert len(expected) == 14
    assert hashes(tmp_path / "local2") == expected

    finished, crews = [], []

    def remove_a_node(progress):
        crews.append(progress.worker_status)
        if progress.finished:
            finished.append(progress.finished.entry.name)
            if len(finished) == 2:
                cluster.remove_node(second, allow_graceful=False)

    config = replace(CONFIG, engine="ray", address=cluster.address)
    prepare(source, rgb_codec, tmp_path / "ray", config, progress=remove_a_node)
    assert len(cluster.list_all_nodes()) == 1
    assert (crews[0], crews[-1]) == ("up to 2 tasks at once", "up to 1 task at once")
    assert sorted(finished) == sorted(name for name in expected if name.endswith(".safetensors"))
    assert hashes(tmp_path / "ray") == expected
    assert not ray.is_initialized()
    assert load_provenance(tmp_path / "ray")["engine"]["name"] == "ray"
    assert verify(tmp_path / "ray", full=True).problems == []

    for part in ("2/2", "1/2"):
        assert prepare(source, rgb_codec, tmp_path / "sliced", replace(config, shards=part)) is None
    prepare(source, rgb_codec, tmp_path / "sliced", replace(CONFIG, finish=True))
    assert hashes(tmp_path / "sliced") == expected


def test_errors_are_raised_and_the_job_can_be_resumed(source, rgb_codec, tmp_path, two_nodes):
    config = replace(CONFIG, engine="ray", address=two_nodes[0].address)
    root, moved = tmp_path / "photos", tmp_path / "elsewhere"

    def vanish(progress):
        if progress.finished and root.exists():
            root.rename(moved)

    with pytest.raises(JobError, match=r"photos' is missing; restore it and run the same command again to continue$"):
        prepare(source, rgb_codec, tmp_path / "out", config, progress=vanish)
    moved.rename(root)
    with pytest.raises(JobError, match=r"1 of the first \d+ samples cannot be used"):
        prepare(source, rgb_codec, tmp_path / "out", replace(config, max_bad=0.001))
    with pytest.raises(CallError, match=r"no node of the Ray cluster has 7 CPUs .* nodes have at most 1 CPUs"):
        prepare(source, rgb_codec, tmp_path / "out", replace(config, cpus_per_task=7))
    prepare(source, rgb_codec, tmp_path / "out", config)
    prepare(source, rgb_codec, tmp_path / "local", CONFIG)
    assert hashes(tmp_path / "out") == hashes(tmp_path / "local")
    with pytest.raises(CallError, match=r"no Ray cluster answers at '127.0.0.1:1'; give HOST:PORT of its head"):
        prepare(source, rgb_codec, tmp_path / "none", replace(config, address="127.0.0.1:1"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_cluster_and_the_same_command_resumes(make_folder, tmp_path, number, code):
    make_folder(each=40)
    arguments = ["prepare", "imagefolder:photos", "--codec", "resize-rgb-16x", "--size", "32", "--shard-samples", "2"]
    arguments += ["--out", "out", "--engine", "ray", "--address", "local"]
    command = [sys.executable, "-m", "walloc_cdl", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert "train-000" in process.stderr.readline()
        family = descendants(process.pid)
        assert len(family) > 3
        process.send_signal(number)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == code, rest
    assert rest.splitlines()[-1].endswith("run the same command again to resume")
    deadline = time.monotonic() + 20
    while (left := [pid for pid in family if is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left
    made = len(list((tmp_path / "out").glob("*.safetensors")))
    assert 0 < made < 80
    assert list((tmp_path / "out").glob("*tmp*")) == []
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    resumed = int(re.search(r"resumed: (\d+) of 80 shards are done", done.stderr)[1])
    assert 0 < resumed <= made  # a shard may be in place, and its record not yet
    assert not (tmp_path / "out/_work").exists()


def descendants(pid: int) -> list[int]:
    """Return the process ids of all descendants of a process."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(status.parent.name))
    found, waiting = [], [pid]
    while waiting:
        own = children.get(waiting.pop(), [])
        found += own
        waiting += own
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
