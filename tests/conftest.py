"""What holds for all tests."""

from __future__ import annotations

import hypothesis

# A busy machine is no failure; each test has a time limit of its own.
hypothesis.settings.register_profile("reqplane", deadline=None)
hypothesis.settings.load_profile("reqplane")
