"""What holds for all tests."""

import signal

from hypothesis import settings

# Property tests draw the same examples on every run: what passes once passes again. Nothing is timed: whoever comes
# first waits for numba.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# A shell starts what runs in the background with Ctrl-C ignored, and commands that tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
