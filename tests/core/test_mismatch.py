"""What NoInstances says of workers that are on other planes than this process (statement 45)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from reqplane import NoInstances
from reqplane.plugins import installed, installs

INSTALLS = {"nats": "`pip install reqplane-nats`", "tcp": "`pip install reqplane-tcp`"}


@pytest.mark.parametrize(
    ("unusable", "missing", "cure"),
    [
        ({"on nats": 3}, {}, "set DYN_REQUEST_PLANE=nats here (or nats,http)"),
        ({"on nats": 3}, INSTALLS, "`pip install reqplane-nats`, then set DYN_REQUEST_PLANE=nats here"),
        ({"on nats": 1, "on velo": 2}, {}, "set DYN_REQUEST_PLANE=velo,nats here"),
        ({"on tcp,nats": 1}, {"tcp": INSTALLS["tcp"]}, "; set DYN_REQUEST_PLANE=nats here"),
        ({"on tcp,nats": 1}, INSTALLS, "`pip install reqplane-tcp`, then set DYN_REQUEST_PLANE=tcp here"),
        ({"on nats": 1, "on http with the codec 'x', which is not installed here": 4}, {}, "=nats here"),
    ],
)
def test_guide_45_the_cure_names_what_to_set(
    unusable: Mapping[str, int], missing: Mapping[str, str], cure: str
) -> None:
    error = NoInstances(endpoint="a.b.c", planes=["http"], unusable=unusable, installs=missing)
    assert cure in str(error)
    assert "or DYN_REQUEST_PLANE=http at the workers" in str(error)


@pytest.mark.parametrize("why", ["on an unknown plane", "on http with an address that can't be used"])
def test_no_plane_is_advised_where_none_would_help(why: str) -> None:
    assert "DYN_REQUEST_PLANE" not in str(NoInstances(endpoint="a.b.c", planes=["http"], unusable={why: 1}))


def test_what_is_published_and_not_installed() -> None:
    none = installs([])
    assert none["nats"] == "`pip install reqplane-nats`"
    assert installs(installed()).keys() == none.keys() - {entry.name for entry in installed()}
