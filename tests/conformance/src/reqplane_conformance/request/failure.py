"""TODO"""

from __future__ import annotations

from reqplane_conformance.request.hooks import RequestSuite


class FailureCases(RequestSuite, suite=True):
    """TODO"""

    group = "failure"
