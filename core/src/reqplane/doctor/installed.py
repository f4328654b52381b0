"""What is installed: Python, the distributions and their versions, the plugins and what they offer."""

from __future__ import annotations

import dataclasses
import difflib
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from reqplane.doctor.report import (
    Advice,
    Finding,
    export,
    installing,
    note,
    ok,
    pip_install,
    pip_install_there,
    pip_uninstall,
    wrong,
)
from reqplane.doctor.variables import with_one_more
from reqplane.hookspecs import EXTENSIONS_GROUP, PROJECT
from reqplane.plugins import (
    CODEC,
    DISCOVERY,
    POLICY,
    REQUEST_PLANE,
    RESPONSE,
    RESPONSE_PLANE,
    Found,
    Kind,
)
from reqplane.settings import Settings

_DISTRIBUTIONS = (
    PROJECT,
    "reqplane-tcp-stream",
    "reqplane-http",
    "reqplane-nats",
    "reqplane-tcp",
    "reqplane-conformance",
)
"""Ours: they have one version and are released together."""
_SOURCES = {
    (REQUEST_PLANE, "http"): "reqplane-http",
    (REQUEST_PLANE, "nats"): "reqplane-nats",
    (REQUEST_PLANE, "tcp"): "reqplane-tcp",
    (RESPONSE, RESPONSE_PLANE): "reqplane-tcp-stream",
    (DISCOVERY, "etcd"): f"{PROJECT}[etcd]",
}
"""What can be had by installing a distribution."""
_ALWAYS_THERE = {REQUEST_PLANE: "http", DISCOVERY: "file", CODEC: "msgpack", POLICY: "round_robin"}
"""What may be chosen instead of a name that is not there."""


def own_version() -> str:
    return _version(PROJECT) or "unknown"


def check_python() -> list[Finding]:
    """The interpreter, and what makes it faster."""
    speed = [name for name in ("uvloop", "msgspec") if find_spec(name) is not None]
    missing = [name for name in ("uvloop", "msgspec") if name not in speed]
    findings = [ok(f"Python {platform.python_version()}, reqplane {own_version()}")]
    if speed:
        findings.append(ok(f"{' and '.join(speed)} {'are' if len(speed) > 1 else 'is'} there"))
    if missing:
        findings.append(
            note(f"without {' and '.join(missing)}; `pip install uvloop msgspec` makes things faster")
        )
    return findings


# ── versions ────────────────────────────────────────────────────────────────────────────────────────


def check_versions() -> list[Finding]:
    """Whether all our distributions are of one release."""
    versions = {name: found for name in _DISTRIBUTIONS if (found := _version(name)) is not None}
    core = versions.get(PROJECT)
    others = [name for name, found in versions.items() if found != core]
    if core is None or not others:
        return []
    listed = ", ".join(f"{name} {found}" for name, found in versions.items())
    return [
        wrong(
            f"the installed versions differ: {listed}",
            installing("they are released together", pip_install(*(f"{name}=={core}" for name in others))),
        )
    ]


def install_this_version(planes: Sequence[str]) -> str:
    """The line that brings what workers on these planes need to this side's version, typed in their shell."""
    names = [PROJECT, _SOURCES[RESPONSE, RESPONSE_PLANE]]
    names += [_SOURCES[REQUEST_PLANE, plane] for plane in planes if (REQUEST_PLANE, plane) in _SOURCES]
    return pip_install_there(*(f"{name}=={own_version()}" for name in names))


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


# ── plugins ─────────────────────────────────────────────────────────────────────────────────────────


def check_plugins(settings: Settings, found: Sequence[Found]) -> list[Finding]:
    """Whether everything that the settings name is there and works."""
    findings = [_broken(settings, plugin) for plugin in found if plugin.broken]
    broken = {plugin.name for plugin in found if plugin.broken and plugin.group != EXTENSIONS_GROUP}
    for kind, name in wanted(settings):
        if name not in offered(kind, found) and name not in broken:
            findings.append(_missing(kind, name, sorted(offered(kind, found))))
    if not any(finding.verdict == "WRONG" for finding in findings):
        chosen = ", ".join(f"{kind.what} {name}" for kind, name in wanted(settings))
        findings.append(ok(f"installed and chosen: {chosen}"))
    return findings


def wanted(settings: Settings) -> list[tuple[Kind, str]]:
    """What the settings name."""
    return [
        *((REQUEST_PLANE, plane) for plane in settings.planes),
        (RESPONSE, RESPONSE_PLANE),
        (DISCOVERY, settings.discovery),
        (CODEC, settings.codec),
        (POLICY, settings.router_mode),
    ]


def offered(kind: Kind, found: Iterable[Found]) -> set[str]:
    """The names of one kind that working plugins offer."""
    return {
        offer.name
        for plugin in found
        if not plugin.broken
        for offer in plugin.offers
        if offer.kind == kind.what
    }


def what_works(settings: Settings, found: Sequence[Found]) -> Settings:
    """The settings without what is missing or broken, so that the rest can be looked at."""
    extensions = [plugin.name for plugin in found if plugin.broken and plugin.group == EXTENSIONS_GROUP]

    def there(kind: Kind, name: str) -> str:
        return name if name in offered(kind, found) else _ALWAYS_THERE[kind]

    return dataclasses.replace(
        settings,
        planes=tuple(plane for plane in settings.planes if plane in offered(REQUEST_PLANE, found)),
        discovery=there(DISCOVERY, settings.discovery),
        codec=there(CODEC, settings.codec),
        router_mode=there(POLICY, settings.router_mode),
        disabled_extensions=(*settings.disabled_extensions, *extensions),
    )


def _broken(settings: Settings, plugin: Found) -> Finding:
    what = plugin.broken or ""
    if plugin.group == EXTENSIONS_GROUP:
        leave_out = with_one_more("DYN_DISABLED_EXTENSIONS", settings.disabled_extensions, plugin.name)
        return wrong(what, Advice("go without it:", (leave_out,)))
    if plugin.name not in (*settings.planes, RESPONSE_PLANE):
        return note(f"{what} (nobody chose it)")
    if plugin.distribution in _DISTRIBUTIONS:
        again = pip_install("--force-reinstall", f"{plugin.distribution}=={own_version()}")
        return wrong(what, installing("install it anew", again))
    return wrong(what, Advice("go without it:", (pip_uninstall(plugin.distribution),)))


def _missing(kind: Kind, name: str, there: Sequence[str]) -> Finding:
    what = f"the {kind.what} {name!r} is not installed (there are: {', '.join(there) or 'none'})"
    source = _SOURCES.get((kind, name))
    if source is not None:
        install = installing("install it", pip_install(f"{source}=={own_version()}"))
        instead = _ALWAYS_THERE.get(kind, name)
        if instead == name or instead not in there:
            return wrong(what, install)
        line = export(kind.variable, instead)
        return wrong(what, install, Advice(f"or use another, the same on all sides: {line}"))
    close = difflib.get_close_matches(name, there, n=1)
    instead = close[0] if close else _ALWAYS_THERE[kind]
    meant = "it is nearly the same name" if close else "use another, the same on all sides"
    choose = export(kind.variable, instead)
    if instead in there:
        return wrong(what, Advice(f"{meant}:", (choose,)))
    return wrong(what, installing(meant, pip_install(f"{_SOURCES[kind, instead]}=={own_version()}"), choose))


def without_plane(name: str, planes: Sequence[str], found: Iterable[Found]) -> Advice | None:
    """Go without a plane that does not work here; None if there is no other."""
    rest = [plane for plane in planes if plane != name]
    instead = rest or [_ALWAYS_THERE[REQUEST_PLANE]]
    if instead == [name] or not set(instead) <= offered(REQUEST_PLANE, found):
        return None
    line = export("DYN_REQUEST_PLANE", ",".join(instead))
    return Advice(f"or go without {name}, the same on all sides:", (line,))


def other_plane(planes: Sequence[str], ours: Sequence[str], found: Sequence[Found]) -> Advice:
    """What to do about workers that are on planes which this side does not use."""
    there = offered(REQUEST_PLANE, found)
    for plane in planes:
        if plane in there:
            return Advice("use the workers' plane:", (export("DYN_REQUEST_PLANE", plane),))
    for plane in planes:
        if (source := _SOURCES.get((REQUEST_PLANE, plane))) is not None:
            install = pip_install(f"{source}=={own_version()}")
            return installing("use the workers' plane", install, export("DYN_REQUEST_PLANE", plane))
    line = export("DYN_REQUEST_PLANE", ",".join(ours))
    return Advice("in the workers' shell, then start them again:", (line,))
