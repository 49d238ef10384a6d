"""What holds for all tests."""

import os
import signal

from hypothesis import settings

from tests.support.paths import ROOT

# Processes that tests start import this checkout, `tests.support` included, in whatever directory they run.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

# Property tests draw the same examples on every run: what passes once passes again. Nothing is timed: whoever comes
# first waits for numba.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# A shell starts what runs in the background with Ctrl-C ignored, and commands that tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
