from __future__ import annotations

import threading
import warnings

from datasets_prep.decode.warning_filter import warnings_ignored


def test_overlapping_threads_ignore_warnings_until_the_last_one_ends(recwarn):
    """Thread A ends while B is inside; with a `catch_warnings` of each, A's end would make B's warnings visible."""
    inside, ended = threading.Event(), threading.Event()

    def second():
        with warnings_ignored():
            inside.set()
            assert ended.wait(10)
            warnings.warn("within a block", stacklevel=1)

    thread = threading.Thread(target=second)
    filters = list(warnings.filters)
    with warnings_ignored():
        thread.start()
        assert inside.wait(10)
    ended.set()
    thread.join()
    assert list(warnings.filters) == filters
    assert len(recwarn) == 0
    warnings.warn("outside", stacklevel=1)
    assert [str(warning.message) for warning in recwarn] == ["outside"]
