"""What is tried again and how often, and who may hold a file's lock beside whom."""

import pytest

from walloc_cdl import retries
from walloc_cdl.file_locks import LockState, open_locked
from walloc_cdl.retries import is_transient_status, retry


@pytest.fixture
def waits(monkeypatch):
    found = []
    monkeypatch.setattr(retries.time, "sleep", found.append)
    return found


def failing(errors):
    """A function that raises these errors, one a call, and then returns how often it was called."""
    left = list(errors)

    def attempt():
        if left:
            raise left.pop(0)
        return len(errors) + 1

    return attempt


def test_what_may_pass_is_tried_again_after_each_pause(waits):
    assert retry(failing([OSError(), OSError()]), (1.0, 4.0), is_transient=lambda error: True) == 3
    assert waits == [1.0, 4.0]
    with pytest.raises(OSError, match="third"):
        retry(failing([OSError(), OSError(), OSError("third")]), (1.0, 4.0), is_transient=lambda error: True)


def test_what_lasts_is_raised_at_once(waits):
    with pytest.raises(KeyError):
        retry(failing([KeyError("gone")]), (1.0,), is_transient=lambda error: not isinstance(error, KeyError))
    assert not waits


def test_jitter_makes_pauses_longer_by_its_share_at_most(waits):
    retry(failing([OSError()] * 50), (2.0,) * 50, is_transient=lambda error: True, jitter=0.5)
    assert min(waits) >= 2.0
    assert max(waits) <= 3.0
    assert len(set(waits)) > 1


def test_statuses_of_busy_and_failing_servers_may_pass():
    assert all(map(is_transient_status, (408, 425, 429, 500, 503, 522)))
    assert not any(map(is_transient_status, (200, 301, 401, 403, 404, 416, "503", None)))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (False, False, LockState.TAKEN),
        (True, False, LockState.TAKEN),
        (False, True, LockState.TAKEN),
        (True, True, LockState.HELD),
    ],
)
def test_shared_locks_go_with_shared_ones_only(tmp_path, first, second, expected):
    path = tmp_path / "folder/file.lock"
    with open_locked(path, shared=first) as (_, state):
        if state is LockState.UNSUPPORTED:
            pytest.skip("the system has no locks")
        with open_locked(path, shared=second) as (_, other):
            assert other is expected
    with open_locked(path) as (_, state):
        assert state is LockState.HELD
