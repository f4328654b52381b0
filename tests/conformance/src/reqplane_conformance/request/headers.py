"""TODO"""

from __future__ import annotations

from reqplane_conformance.request.hooks import RequestSuite


class HeaderCases(RequestSuite, suite=True):
    """TODO"""

    group = "headers"
