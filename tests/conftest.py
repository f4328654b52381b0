"""What holds for all tests."""

from __future__ import annotations

import signal

import hypothesis

# A busy machine is no failure; each test has a time limit of its own.
hypothesis.settings.register_profile("reqplane", deadline=None)
hypothesis.settings.load_profile("reqplane")

# A shell without job control starts background jobs with Ctrl-C ignored, which every process that the tests
# start would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
