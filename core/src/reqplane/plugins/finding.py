"""Entry points: which there are, which are wanted, and that no two have one name."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Sequence
from importlib.metadata import EntryPoint

from reqplane.errors import PluginConflict
from reqplane.hookspecs import EXTENSIONS_GROUP, TRANSPORTS_GROUP
from reqplane.plugins.kinds import RESPONSE_PLANE, Found
from reqplane.settings import Settings


@functools.cache
def installed() -> tuple[EntryPoint, ...]:
    """The entry points of this process's distributions.  Scanning them all takes some 40 ms: once."""
    everything = importlib.metadata.entry_points()
    return (*everything.select(group=TRANSPORTS_GROUP), *everything.select(group=EXTENSIONS_GROUP))


def wanted(entries: Sequence[EntryPoint], settings: Settings) -> list[EntryPoint]:
    """The entry points to load; PluginConflict if two of them have one name."""
    wanted = sorted(
        (entry for entry in entries if _is_wanted(entry, settings)),
        key=transports_first,
    )
    for entry in wanted:
        check_unique(entry, entries)
    return wanted


def transports_first(entry: EntryPoint) -> tuple[bool, str]:
    return entry.group != TRANSPORTS_GROUP, entry.name


def _is_wanted(entry: EntryPoint, settings: Settings) -> bool:
    if entry.group == TRANSPORTS_GROUP:
        return entry.name == RESPONSE_PLANE or entry.name in settings.planes
    return entry.group == EXTENSIONS_GROUP and entry.name not in settings.disabled_extensions


def check_unique(entry: EntryPoint, entries: Sequence[EntryPoint]) -> None:
    claims = [other for other in entries if (other.group, other.name) == (entry.group, entry.name)]
    if len(claims) > 1:
        kind = "transport" if entry.group == TRANSPORTS_GROUP else "extension"
        raise PluginConflict(kind, entry.name, sorted(source_of(claim).distribution for claim in claims))


def source_of(entry: EntryPoint) -> Found:
    distribution = entry.dist
    if distribution is None:
        return Found(entry.name, "an unknown distribution", "", entry.group)
    return Found(entry.name, distribution.name, distribution.version, entry.group)
