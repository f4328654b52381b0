"""Every installed plugin, for people: what is broken is told, never raised."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint
from typing import Any

from reqplane.errors import PluginError
from reqplane.hookspecs import EXTENSIONS_GROUP
from reqplane.plugins.asking import BUILTIN, Loaded, load, load_builtin
from reqplane.plugins.choosing import clash, found
from reqplane.plugins.finding import check_unique, installed, source_of, transports_first
from reqplane.plugins.kinds import KINDS, Found, Kind
from reqplane.settings import Settings


def list_plugins(settings: Settings, *, entry_points: Iterable[EntryPoint] | None = None) -> list[Found]:
    """Every installed plugin, chosen or not.  What is broken is told, never raised."""
    entries = installed() if entry_points is None else tuple(entry_points)
    ordered = sorted(entries, key=transports_first)
    attempts: list[Loaded | Found] = [_attempt(BUILTIN, load_builtin)]
    attempts += [_attempt_entry(entry, entries, settings) for entry in ordered]
    return [*_without_clashes(attempts, settings)]


def offered(
    wanted: str, *, entry_points: Iterable[EntryPoint] | None = None
) -> Mapping[Kind, Mapping[str, type[Any]]]:
    """Every class that an installed plugin offers, by kind and name, whatever the settings choose.

    Broken plugins are left out, but for the one named `wanted`: PluginError says what is wrong with it.
    """
    entries = installed() if entry_points is None else tuple(entry_points)
    classes: dict[Kind, dict[str, type[Any]]] = {kind: {} for kind in KINDS}
    loaded = [load_builtin()]
    for entry in sorted(entries, key=transports_first):
        try:
            check_unique(entry, entries)
            loaded.append(load(entry))
        except PluginError:
            if entry.name == wanted:
                raise
    for plugin in loaded:
        for kind, cls in plugin.answers:
            classes[kind].setdefault(cls.name, cls)
    return classes


def _attempt(source: Found, loading: Callable[[], Loaded]) -> Loaded | Found:
    try:
        return loading()
    except PluginError as error:
        return dataclasses.replace(source, broken=str(error))


def _attempt_entry(entry: EntryPoint, entries: Sequence[EntryPoint], settings: Settings) -> Loaded | Found:
    source = source_of(entry)
    if entry.group == EXTENSIONS_GROUP and entry.name in settings.disabled_extensions:
        return dataclasses.replace(source, disabled=True)

    def loading() -> Loaded:
        check_unique(entry, entries)
        return load(entry)

    return _attempt(source, loading)


def _without_clashes(attempts: Iterable[Loaded | Found], settings: Settings) -> Iterator[Found]:
    """Tell of each plugin; of two that offer the same, the later one is the broken one."""
    first: dict[tuple[Kind, str], Found] = {}
    for attempt in attempts:
        if isinstance(attempt, Found):
            yield attempt
            continue
        told = found(attempt, settings)
        for kind, cls in attempt.answers:
            holder = first.setdefault((kind, cls.name), attempt.source)
            if holder is not attempt.source:
                problem = clash(kind, cls.name, holder, attempt.source)
                told = dataclasses.replace(told, broken=str(problem))
        yield told
