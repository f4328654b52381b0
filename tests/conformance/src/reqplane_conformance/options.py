"""The command line: which subject, under which strain, and where the report goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from reqplane.errors import ReqplaneError
from reqplane.plugins import DISCOVERY, REQUEST_PLANE, RESPONSE, Kind, offered

from reqplane_conformance.strain import KINDS, Strain

_KINDS: Mapping[str, Kind] = {kind.what: kind for kind in (REQUEST_PLANE, RESPONSE, DISCOVERY)}
_SUBJECTS = pytest.StashKey[dict[str, type[Any]]]()
"""By kind: all plugins are looked at to find it, which takes longer than many a case."""


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("reqplane conformance")
    named: dict[str, Any] = {"metavar": "NAME", "action": "append", "default": []}
    group.addoption("--transport", **named, help="the request or response plane to try, by its name")
    group.addoption("--discovery", **named, help="the discovery backend to try, by its name")
    group.addoption("--conformance-report", metavar="FILE", help="write the result as JSON")
    group.addoption(
        "--conformance-strain",
        choices=KINDS,
        default="none",
        help="run under hard times: 50 ms of delay each way, or a machine that has too much to do",
    )
    group.addoption(
        "--restart-peer",
        metavar="COMMAND",
        help="a shell command that restarts the server which the transport depends on",
    )
    group.addoption(
        "--put-record",
        metavar="COMMAND",
        help="a shell command that writes $VALUE under $KEY into the discovery backend's store; where VALUE "
        "is empty it deletes the key",
    )


_CHOOSING = ("keyword", "markexpr", "deselect", "lf", "stepwise")


def chosen(config: pytest.Config) -> bool:
    """Whether the command line asks for some of the cases only."""
    options = any(config.getoption(name, None) for name in _CHOOSING)
    return options or any("::" in argument for argument in config.args)


def strain_of(config: pytest.Config) -> Strain:
    return Strain(str(config.getoption("--conformance-strain")))


def wanted_kind(config: pytest.Config) -> str:
    """Which suite the options ask for; UsageError if they ask for none, or for something unknown."""
    transport, backend = _name(config, "--transport"), _name(config, "--discovery")
    if transport and backend:
        raise pytest.UsageError("wanted --transport or --discovery, got both: a run tries one subject")
    if backend:
        _find("--discovery", backend, (DISCOVERY,))
        return DISCOVERY.what
    if transport:
        kind, cls = _find("--transport", transport, (REQUEST_PLANE, RESPONSE))
        if cls.__module__.startswith("reqplane_conformance."):
            raise pytest.UsageError(
                f"--transport {transport}: this plane never leaves its process, so it is tried by a class "
                f"that makes its workers there: class TestMemory(InMemory, RequestTransportConformance)"
            )
        return kind.what
    raise pytest.UsageError(
        "the conformance suite has nothing to try: add --transport NAME (`reqplane plugins` lists the "
        "names), or --discovery NAME for a discovery backend"
    )


def subject_of(config: pytest.Config, kind: str) -> type[Any]:
    """The class that --transport or --discovery names."""
    known = config.stash.setdefault(_SUBJECTS, {})
    if kind in known:
        return known[kind]
    option = "--discovery" if kind == DISCOVERY.what else "--transport"
    name = _name(config, option)
    if not name:
        raise pytest.UsageError(
            f"a conformance class does not say which {kind} it is about: set its `{option[2:]}` to the class "
            f"to be tried, or add {option} NAME"
        )
    known[kind] = _find(option, name, (_KINDS[kind],))[1]
    return known[kind]


def _name(config: pytest.Config, option: str) -> str:
    """What the option says; "" if nothing.  UsageError if it says two things."""
    given: list[str] = config.getoption(option) or []
    names = list(dict.fromkeys(given))
    if len(names) > 1:
        raise pytest.UsageError(f"{option} {', '.join(names)}: a run tries one subject")
    return names[0] if names else ""


def _find(option: str, name: str, kinds: tuple[Kind, ...]) -> tuple[Kind, type[Any]]:
    try:
        found = offered(name)
    except ReqplaneError as error:
        raise pytest.UsageError(f"{option} {name}: {error}") from error
    classes = {kind: found[kind] for kind in _KINDS.values()}
    for kind in kinds:
        if name in classes[kind]:
            return kind, classes[kind][name]
    for kind in classes:
        if name in classes[kind]:
            other = "--discovery" if kind is DISCOVERY else "--transport"
            raise pytest.UsageError(f"{option} {name}: {name!r} is a {kind.what}, so type {other} {name}")
    there = sorted({found for kind in kinds for found in classes[kind]})
    what = " or ".join(kind.what for kind in kinds)
    raise pytest.UsageError(
        f"{option} {name}: no installed plugin offers a {what} of that name (there are: {', '.join(there)}); "
        f"install yours, and see `reqplane plugins`"
    )
