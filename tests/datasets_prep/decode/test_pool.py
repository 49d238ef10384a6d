from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets_prep.decode.arrays import ArrayPreparation
from datasets_prep.decode.chunks import concatenate_chunks
from datasets_prep.decode.images import ImagePreparation, load_pixels
from datasets_prep.decode.pool import DecodePool
from datasets_prep.decode.views import ViewedImagePreparation
from datasets_prep.decode.worker import decode_chunk, undecodable
from datasets_prep.samples.stored import ArrayWindow, KeyedSample, ReadFailure
from tests.support.fragile import FragilePreparation, Unloadable
from tests.support.paths import ROOT
from tests.support.pictures import encoded, picture
from walloc_cdl.codec import load_codec
from walloc_cdl.errors import JobError

needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")


def tasks(count, each=3):
    """Tasks of unequal cost, each with one bad file, tagged by number."""
    for number in range(count):
        side = 400 if number % 3 == 0 else 20
        files = [encoded(picture(number * each + position, side, side)) for position in range(each)]
        yield number, [*files[:1], b"-", *files[1:]]


def test_chunk_keeps_the_order_and_names_bad_files():
    chunk = decode_chunk([encoded(picture(0)), b"", encoded(picture(1)), b"-"], ImagePreparation(3, 16))
    assert chunk.reasons == {1: "empty file", 3: "not an image of a known format"}
    expected = [load_pixels(encoded(picture(seed)), 16, 3) for seed in (0, 1)]
    np.testing.assert_array_equal(chunk.signals, expected)
    assert decode_chunk([b""], ImagePreparation(1, 16)).signals.shape == (0, 1, 16, 16)


def test_content_is_hashed_as_it_is_stored(tmp_path):
    whole, broken = encoded(picture(0)), b"no image"
    (tmp_path / "a.png").write_bytes(whole)
    os.mkfifo(tmp_path / "pipe.png")  # reading it would wait forever
    stored = [whole, tmp_path / "a.png", broken, tmp_path / "gone.png", tmp_path / "pipe.png", b""]
    chunk = decode_chunk(stored, ImagePreparation(3, 16))
    sha256 = [hashlib.sha256(data).hexdigest() for data in (whole, broken, b"")]
    assert chunk.hashes == [sha256[0], sha256[0], sha256[1], None, None, sha256[2]]
    assert chunk.num_bytes == [len(whole), len(whole), len(broken), 0, 0, 0]
    assert chunk.reasons == {
        2: "not an image of a known format",
        3: "no such file",
        4: "not a regular file",
        5: "empty file",
    }
    assert len(chunk.signals) == 2


def test_files_too_large_to_be_taken_into_memory_are_refused(tmp_path):
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(2**30 + 1)  # sparse
    chunk = decode_chunk([tmp_path / "huge.png"], ImagePreparation(3, 16))
    assert chunk.reasons == {0: "a file of 1,073,741,825 bytes, more than 1,073,741,824"}
    assert chunk.hashes == [None]


def test_windows_of_a_shared_file_are_hashed_as_prepared(tmp_path):
    values = np.arange(3 * 8 * 16, dtype=np.uint16).reshape(3, 8, 16)
    np.save(tmp_path / "cube.npy", values)
    preparation = ArrayPreparation(3, 8, 8, 0, 65535)
    windows = [ArrayWindow(tmp_path / "cube.npy", 0, (0, left, 8, 8)) for left in (0, 8, 0)]
    chunk = decode_chunk([*windows, ArrayWindow(tmp_path / "gone.npy", 0, None)], preparation)
    assert chunk.hashes[:3] == [hashlib.sha256(signal.tobytes()).hexdigest() for signal in chunk.signals]
    assert chunk.hashes[0] == chunk.hashes[2] != chunk.hashes[1]
    assert chunk.hashes[3] is None
    assert chunk.num_bytes == [4 * 3 * 8 * 8] * 3 + [0]


def test_workers_give_what_the_process_itself_gives_in_order():
    with DecodePool(0, ImagePreparation(3, 16)) as alone, DecodePool(2, ImagePreparation(3, 16)) as pool:
        drawn = []
        several = pool.decode((drawn.append(tag) or tag, files) for tag, files in tasks(20))
        for (tag, chunk), (other_tag, other) in zip(alone.decode(tasks(20)), several, strict=True):
            assert len(drawn) <= tag + 7
            assert tag == other_tag
            assert chunk.reasons == other.reasons == {1: "not an image of a known format"}
            np.testing.assert_array_equal(chunk.signals, other.signals)
    assert drawn == list(range(20))


@needs_signals
def test_a_killed_worker_loses_nothing():
    with DecodePool(1, ImagePreparation(3, 16)) as pool:
        results = pool.decode(tasks(12))
        chunks = [next(results)]
        (first,) = pool.pids
        os.kill(first, signal.SIGKILL)
        chunks += results
        assert pool.pids != [first]
    assert [tag for tag, _ in chunks] == list(range(12))
    for (_, samples), (_, chunk) in zip(tasks(12), chunks, strict=True):
        alone = decode_chunk(samples, ImagePreparation(3, 16))
        np.testing.assert_array_equal(chunk.signals, alone.signals)
        assert (chunk.reasons, chunk.hashes) == (alone.reasons, alone.hashes)


@pytest.mark.parametrize("workers", [1, 2])
def test_samples_that_end_their_worker_are_quarantined(workers):
    samples = [b"0", b"abort", b"1", b"exit", b"sleep", b"memory", b"bad", b"2"]
    expected = {
        1: "the decoder crashed",
        3: "the decoder crashed",
        4: "took longer than 0.5 s to read and decode",
        5: "decoding it takes more than 1 GiB of memory",
        6: "as bad as it says",
    }
    with DecodePool(workers, FragilePreparation(), time_limit_s=0.5) as pool:
        chunks = dict(pool.decode([(0, samples), (1, [b"3"]), (2, samples)]))
    for tag in (0, 2):
        assert chunks[tag].reasons == expected
        assert chunks[tag].signals.tolist() == [[0], [1], [2]]
        assert chunks[tag].hashes == [hashlib.sha256(sample).hexdigest() for sample in samples]
        assert chunks[tag].num_bytes == [len(sample) for sample in samples]
    assert chunks[1].signals.tolist() == [[3]]


@needs_signals
def test_a_bus_error_is_a_failure_of_the_system():
    """It ends a process that touches a page of a memory-mapped file that the system can no longer read."""
    with DecodePool(1, FragilePreparation()) as pool:
        ((_, chunk),) = pool.decode([(0, [b"0", b"bus", b"abort"])])
    assert chunk.reasons == {1: "the decoder crashed", 2: "the decoder crashed"}
    assert chunk.failures == {1: ReadFailure.FAILED}


@needs_signals
def test_a_sample_whose_workers_are_killed_from_outside_is_not_blamed():
    with (
        DecodePool(1, FragilePreparation()) as pool,
        pytest.raises(JobError, match="a decoding worker was killed twice; run the same command again to continue"),
    ):
        list(pool.decode([(0, [b"0", b"kill"])]))


def test_what_is_no_sample_s_fault_is_raised_with_its_origin():
    with DecodePool(1, FragilePreparation()) as pool, pytest.raises(ZeroDivisionError) as caught:
        list(pool.decode([(0, [b"bug"])]))
    assert "fragile.py" in str(caught.value.__cause__)


def test_what_cannot_be_sent_is_no_crash_of_the_decoder():
    """As a data set of a class of a notebook, which workers do not have: no sample of it is bad."""
    with DecodePool(1, FragilePreparation()) as pool:
        with pytest.raises(RuntimeError, match="OddError: stumbled 7"):
            list(pool.decode([(0, [b"0", b"odd bug"])]))
        with pytest.raises(ValueError, match="no number"):
            list(pool.decode([(0, [Unloadable()])]))


def test_leaving_the_pool_ends_busy_workers():
    start = time.monotonic()
    with DecodePool(2, FragilePreparation()) as pool:
        results = pool.decode([(0, [b"0"]), (1, [b"sleep"]), (2, [b"sleep"]), (3, [b"sleep"])])
        assert next(results)[1].signals.tolist() == [[0]]
    assert time.monotonic() - start < 20
    assert pool.pids == []


@needs_signals
def test_busy_workers_end_with_a_parent_that_was_killed(tmp_path):
    """They neither wait for a task nor send a result, either of which would fail."""
    script = tmp_path / "orphans.py"
    script.write_text(
        textwrap.dedent("""
        import time
        from datasets_prep.decode.pool import DecodePool
        from tests.support.fragile import FragilePreparation

        if __name__ == "__main__":
            with DecodePool(2, FragilePreparation(), time_limit_s=1000) as pool:
                tasks = [(0, [b"0"]), (1, [b"1"]), (2, [b"sleep"]), (3, [b"sleep"]), (4, [b"sleep"])]
                for tag, _ in pool.decode(tasks):
                    if tag == 1:
                        time.sleep(0.3)
                        print(*pool.pids, flush=True)
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert [is_running(pid) for pid in pids] == [True, True]
        parent.kill()
    deadline = time.monotonic() + 10
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    orphans = [pid for pid in pids if is_running(pid)]
    for pid in orphans:
        os.kill(pid, signal.SIGKILL)
    assert not orphans


def is_running(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_script_without_a_guard_is_told_of_it(tmp_path):
    (tmp_path / "script.py").write_text(
        textwrap.dedent("""
        from datasets_prep.decode.images import ImagePreparation
        from datasets_prep.decode.pool import DecodePool

        with DecodePool(1, ImagePreparation(3, 16)) as pool:
            list(pool.decode([(0, [b""])]))
        """)
    )
    answer = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 1
    assert "a decoding worker cannot start; a script that calls prepare() needs `if __name__" in answer.stderr


def test_workers_load_neither_torch_nor_datasets():
    program = """
        import sys
        import datasets_prep.decode.pool
        # What a worker meets when it unpickles its preparation.
        import datasets_prep.decode.arrays, datasets_prep.decode.audio, datasets_prep.decode.images
        heavy = {"torch", "datasets", "timm", "pyarrow", "sklearn", "safetensors", "scipy", "soundfile"}
        print(sorted(heavy & set(sys.modules)))
    """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


@needs_signals
def test_workers_end_with_a_killed_parent(tmp_path):
    program = tmp_path / "parent.py"
    program.write_text(
        textwrap.dedent("""
        import os, signal
        from datasets_prep.decode.images import ImagePreparation
        from datasets_prep.decode.pool import DecodePool

        if __name__ == "__main__":
            with DecodePool(1, ImagePreparation(3, 16)) as pool:
                list(pool.decode([(0, [b""])]))
                print(*pool.pids, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        """)
    )
    # the worker has inherited the pipe: its end comes when the worker is gone, or never
    answer = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=20)
    assert answer.returncode == -signal.SIGKILL
    assert int(answer.stdout) > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_encode_what_they_decode(workers):
    codec = load_codec("rgb-16x")
    with DecodePool(workers, ImagePreparation(3, 16), codec.detached_encoder()) as pool:
        chunks = [chunk for _, chunk in pool.decode(tasks(5))]
    for (_, samples), chunk in zip(tasks(5), chunks, strict=True):
        decoded = decode_chunk(samples, ImagePreparation(3, 16))
        np.testing.assert_array_equal(chunk.signals, codec.encode(torch.from_numpy(decoded.signals)))
        assert (chunk.reasons, chunk.hashes, chunk.num_bytes) == (decoded.reasons, decoded.hashes, decoded.num_bytes)


def test_codes_of_every_view_keep_their_places():
    codec, preparation = load_codec("rgb-16x"), ViewedImagePreparation(3, 16, view_names=("center", "flip"))
    samples = [KeyedSample(f"{seed}.png", encoded(picture(seed))) for seed in range(3)]
    views = decode_chunk(samples, preparation).signals
    codes = decode_chunk(samples, preparation, codec.detached_encoder()).signals
    assert codes.shape == (3, 2, 12, 2, 2)
    for view in range(2):
        np.testing.assert_array_equal(codes[:, view], codec.encode(torch.from_numpy(views[:, view])))
    assert (
        decode_chunk([KeyedSample("-", b"-")], preparation, codec.detached_encoder()).signals.shape == codes[:0].shape
    )


def test_a_sample_that_no_worker_survived_fits_among_codes_of_others():
    preparation, encoder = ImagePreparation(3, 16), load_codec("rgb-16x").detached_encoder()
    good = decode_chunk([encoded(picture(0))], preparation, encoder)
    chunk = concatenate_chunks([good, undecodable(b"-", "the decoder crashed", preparation, encoder), good])
    np.testing.assert_array_equal(chunk.signals, np.concatenate([good.signals, good.signals]))
    assert chunk.reasons == {1: "the decoder crashed"}
