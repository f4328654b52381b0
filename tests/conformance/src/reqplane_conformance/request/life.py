"""TODO"""

from __future__ import annotations

from reqplane_conformance.request.hooks import RequestSuite


class LifeCases(RequestSuite, suite=True):
    """TODO"""

    group = "life"
