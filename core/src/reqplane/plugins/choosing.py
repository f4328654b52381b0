"""What the settings name, out of what all plugins offer; and the errors for what is not there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint
from typing import Any

from reqplane.errors import PluginConflict, PluginError, PluginNotFound, SettingsError
from reqplane.hookspecs import TRANSPORTS_GROUP
from reqplane.plugins.asking import Loaded
from reqplane.plugins.kinds import (
    CODEC,
    DISCOVERY,
    KINDS,
    POLICY,
    REQUEST_PLANE,
    RESPONSE,
    RESPONSE_PLANE,
    Found,
    Kind,
    Offer,
)
from reqplane.settings import Problem, Settings, collect

# Where what we publish comes from.  A name that is not ours gets no such hint: anybody could own it.
_PUBLISHED = {
    (REQUEST_PLANE, "http"): "`pip install reqplane-http`",
    (REQUEST_PLANE, "nats"): "`pip install reqplane-nats`",
    (REQUEST_PLANE, "tcp"): "`pip install reqplane-tcp`",
    (RESPONSE, RESPONSE_PLANE): "`pip install reqplane-tcp-stream`",
    (DISCOVERY, "etcd"): '`pip install "reqplane[etcd]"`',
}

# What works without a server, for those who did not choose anything.
_SERVERLESS = {REQUEST_PLANE: "http", DISCOVERY: "file"}

Answers = Mapping[Kind, Mapping[str, tuple[type[Any], Loaded]]]


def by_name(loaded: Iterable[Loaded]) -> Answers:
    """Every class by kind and name; PluginConflict if two plugins offer the same."""
    answers: dict[Kind, dict[str, tuple[type[Any], Loaded]]] = {kind: {} for kind in KINDS}
    for plugin in loaded:
        for kind, cls in plugin.answers:
            _, first = answers[kind].setdefault(cls.name, (cls, plugin))
            if first is not plugin:
                raise clash(kind, cls.name, first.source, plugin.source)
    return answers


def clash(kind: Kind, name: str, first: Found, second: Found) -> PluginConflict:
    return PluginConflict(kind.what, name, [first.distribution, second.distribution])


def choices(settings: Settings) -> list[tuple[Kind, str]]:
    """What the settings name."""
    planes = [(REQUEST_PLANE, plane) for plane in settings.planes]
    return [
        *planes,
        (RESPONSE, RESPONSE_PLANE),
        (DISCOVERY, settings.discovery),
        (CODEC, settings.codec),
        (POLICY, settings.router_mode),
    ]


def found(plugin: Loaded, settings: Settings) -> Found:
    """What there is to tell about a plugin: what it offers, and what of that the settings choose."""
    chosen = set(choices(settings))
    offers = [Offer(kind.what, cls.name, (kind, cls.name) in chosen) for kind, cls in plugin.answers]
    if plugin.observes:
        offers.append(Offer("observer", plugin.source.name, chosen=True))
    return dataclasses.replace(plugin.source, offers=tuple(offers))


def _problems_of_chosen(
    answers: Answers, choices: Sequence[tuple[Kind, str]], env: Mapping[str, str]
) -> list[Problem]:
    """What is wrong with the variables of the plugins that were chosen and are there."""
    chosen = [answers[kind][name][0] for kind, name in choices if name in answers[kind]]
    classes = [cls.settings for cls in chosen if getattr(cls, "settings", None) is not None]
    return collect(classes, env)[1]


def check_choice(
    answers: Answers,
    choices: Sequence[tuple[Kind, str]],
    env: Mapping[str, str],
    entries: Sequence[EntryPoint],
    problems: Sequence[Problem] = (),
) -> None:
    """Complain about what is named and not there, and about every wrong variable, all in one error.

    `problems` are those that are known already.
    """
    problems = [*problems, *_problems_of_chosen(answers, choices, env)]
    missing = [(kind, name) for kind, name in choices if name not in answers[kind]]
    defaults = [(kind, name) for kind, name in missing if kind.variable and not _is_set(kind, env)]
    errors: list[PluginError | SettingsError] = [
        not_found(kind, name, _installed_names(kind, answers, entries))
        for kind, name in missing
        if (kind, name) not in defaults and (kind is not RESPONSE or not defaults)
    ]
    if defaults:
        errors.append(_defaults_missing(defaults, entries))
    if problems:
        errors.insert(0, SettingsError(problems))
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise SettingsError([problem for error in errors for problem in _as_problems(error)])


def _as_problems(error: PluginError | SettingsError) -> Sequence[Problem]:
    """An error as lines of a SettingsError."""
    if isinstance(error, SettingsError):
        return error.problems
    assert isinstance(error, PluginNotFound)
    variable = next(kind.variable for kind in KINDS if kind.what == error.kind)
    return [(variable, error.wanted, str(error))]


def _is_set(kind: Kind, env: Mapping[str, str]) -> bool:
    return bool(env.get(kind.variable, "").strip())


def _installed_names(kind: Kind, answers: Answers, entries: Iterable[EntryPoint]) -> set[str]:
    names = set(answers[kind])
    if kind is REQUEST_PLANE:  # those that nobody chose are not loaded, and known by their entry points
        names |= {entry.name for entry in entries if entry.group == TRANSPORTS_GROUP} - {RESPONSE_PLANE}
    return names


def not_found(kind: Kind, name: str, installed_names: Iterable[str]) -> PluginError | SettingsError:
    if kind is POLICY and name == "kv":
        return SettingsError([(kind.variable, name, "routing by KV cache is not there yet")])
    line = _PUBLISHED.get((kind, name))
    return PluginNotFound(kind.what, name, installed_names, f"install it: {line}" if line else "")


def installs(entries: Iterable[EntryPoint]) -> dict[str, str]:
    """What to type for each request plane that we publish and that is not installed: {plane: line}."""
    there = {entry.name for entry in entries if entry.group == TRANSPORTS_GROUP}
    published = {name: line for (kind, name), line in _PUBLISHED.items() if kind is REQUEST_PLANE}
    return {name: line for name, line in published.items() if name not in there}


def _defaults_missing(missing: Sequence[tuple[Kind, str]], entries: Iterable[EntryPoint]) -> SettingsError:
    """Nobody chose these: say how to get them, and how to do without."""
    problems = [
        (kind.variable, name, f"the default {kind.what} is not installed: {_PUBLISHED[kind, name]}")
        for kind, name in missing
    ]
    exports = " ".join(f"{kind.variable}={_SERVERLESS[kind]}" for kind, _ in missing)
    instead = f"`export {exports}`"
    has_http = any((entry.group, entry.name) == (TRANSPORTS_GROUP, "http") for entry in entries)
    if REQUEST_PLANE in dict(missing) and not has_http:
        instead = f"{_PUBLISHED[REQUEST_PLANE, 'http']} and {instead}"
    variable, name, problem = problems[-1]
    problems[-1] = (variable, name, f"{problem}; or, with no server to run: {instead}")
    return SettingsError(problems)
