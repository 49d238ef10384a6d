"""What holds for all tests."""

import atexit
import os
import shutil
import signal
import tempfile

from hypothesis import settings

from tests.support.paths import ROOT

# Processes that tests start import this checkout, `tests.support` included, in whatever directory they run.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

# Records of unfinished changes are signed with a key of the user's, who keeps none of the tests.
if "CDL_TEST_STATE" not in os.environ:  # not in the processes that share the tests among them
    os.environ["CDL_TEST_STATE"] = os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="state")
    atexit.register(shutil.rmtree, os.environ["CDL_TEST_STATE"], ignore_errors=True)

# Property tests draw the same examples on every run: what passes once passes again. Nothing is timed: whoever comes
# first waits for numba.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# A shell starts what runs in the background with Ctrl-C ignored, and commands that tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
