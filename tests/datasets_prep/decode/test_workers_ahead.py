"""Workers that start before there is a pool, while the program imports torch."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datasets_prep.decode import pool as pools
from datasets_prep.decode.images import ImagePreparation
from datasets_prep.decode.pool import DecodePool, workers_ahead
from datasets_prep.decode.worker import decode_chunk, load_code
from tests.support.paths import ROOT
from tests.support.pictures import encoded, picture
from walloc_cdl.codec import load_codec

SAMPLES = [encoded(picture(seed)) for seed in range(3)]


def pids():
    return {process.pid for process in multiprocessing.active_children()}


def test_a_pool_takes_the_workers_that_were_started_ahead_and_ends_the_others():
    before = pids()
    with workers_ahead(2):
        started = pids() - before
        assert len(started) == 2
        with DecodePool(1, ImagePreparation(3, 16)) as pool:
            assert pids() - before == set(pool.pids) < started
            ((_, chunk),) = pool.decode([(0, SAMPLES)])
    np.testing.assert_array_equal(chunk.signals, decode_chunk(SAMPLES, ImagePreparation(3, 16)).signals)
    assert pids() == before


def test_a_pool_starts_the_workers_that_are_missing():
    with workers_ahead(1):
        (first,) = (worker.pid for worker in pools._started_ahead)
        with DecodePool(2, ImagePreparation(3, 16)) as pool:
            assert first in pool.pids
            assert len(pool.pids) == 2
            assert [tag for tag, _ in pool.decode([(0, SAMPLES), (1, SAMPLES)])] == [0, 1]


def test_workers_that_no_pool_takes_end_with_the_block():
    before = pids()
    with pytest.raises(ZeroDivisionError), workers_ahead(2):
        raise ZeroDivisionError
    assert pids() == before


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_ctrl_c_does_not_reach_a_worker_that_still_imports_modules():
    """The parent process handles it; the first process that multiprocessing starts is the one to look at."""
    program = (
        "import os, signal\n"
        "from datasets_prep.decode.pool import WorkerProcess\n"
        "if __name__ == '__main__':\n"
        "    worker = WorkerProcess()\n"
        "    for pid in (worker.pid, os.getpid()):\n"
        "        lines = open(f'/proc/{pid}/status').read().splitlines()\n"
        "        print(next(int(line.split()[1], 16) >> signal.SIGINT - 1 & 1 for line in lines if 'SigBlk' in line))\n"
        "    worker.end()\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.split() == ["1", "0"]


def test_a_program_that_passes_an_encoder_on_does_not_load_numba():
    program = (
        "import pickle, sys, walloc_cdl; pickle.dumps(walloc_cdl.load_codec('rgb-16x').detached_encoder()); "
        "print('numba' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == "False"


def test_a_detached_encoder_does_not_follow_the_codec():
    codec = load_codec("rgb-16x")
    signal = np.stack([np.asarray(picture(0, 32, 32)).transpose(2, 0, 1)])
    detached = codec.detached_encoder()
    codes = detached.encode(signal)
    for parameter in codec.parameters():
        parameter.data.zero_()
    np.testing.assert_array_equal(detached.encode(signal), codes)
    assert codes.any()


def test_workers_load_what_images_need_from_the_cache():
    """They would otherwise compile for seconds; the kernels have been compiled by this process or before it."""
    codec = load_codec("rgb-16x")
    load_code(ImagePreparation(3), codec.detached_encoder())
    program = (
        "import numpy as np, walloc_cdl\n"
        "from datasets_prep.decode.images import ImagePreparation\n"
        "from datasets_prep.decode.worker import load_code\n"
        "from walloc_cdl.kernels.cpu.detached import DetachedEncoder\n"
        "weight = np.zeros((1, 12), np.float32)\n"
        "load_code(ImagePreparation(3), DetachedEncoder(weight, weight[:, 0], levels=1, dimensions=2, bits=8))\n"
        "from walloc_cdl.kernels.cpu import fused, resample\n"
        "kernels = resample._weights, resample._filter_rows, resample._filter_columns, fused._add_image\n"
        "print([(sum(k.stats.cache_hits.values()), sum(k.stats.cache_misses.values())) for k in kernels])\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == str([(1, 0)] * 4)
