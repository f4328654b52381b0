"""Everything that a runtime needs of its plugins: loaded, checked, and what was chosen opened."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, cast

from reqplane.errors import PluginBroken, ReqplaneError
from reqplane.hookspecs import EXTENSIONS_GROUP
from reqplane.interfaces import (
    Discovery,
    Host,
    Observer,
    PayloadCodec,
    RequestTransport,
    ResponseTransport,
    RouterPolicy,
)
from reqplane.plugins.asking import Loaded, ask, broken, described, load, load_builtin, observers
from reqplane.plugins.choosing import Answers, by_name, check_choice, choices, found, not_found
from reqplane.plugins.finding import installed, wanted
from reqplane.plugins.kinds import (
    CODEC,
    DISCOVERY,
    KINDS,
    POLICY,
    REQUEST_PLANE,
    RESPONSE,
    Found,
    Kind,
)
from reqplane.settings import Problem, Settings

OPENING_SECONDS = 30.0
"""What opening one plugin may take."""


@dataclass(frozen=True, slots=True)
class Plugins:
    """The plugins of one runtime: classes by name.  What the settings choose is there for certain."""

    request_transports: Mapping[str, type[RequestTransport[Any]]]
    response_transports: Mapping[str, type[ResponseTransport]]
    discovery_backends: Mapping[str, type[Discovery]]
    codecs: Mapping[str, type[PayloadCodec]]
    policies: Mapping[str, type[RouterPolicy]]
    observers: Callable[[Mapping[str, str]], tuple[Observer, ...]]
    """Makes the observers, from the runtime's variables."""
    found: tuple[Found, ...]
    """The plugins that were loaded."""
    origins: Mapping[type[Any], Found]
    """Which plugin each class comes from."""

    def policy(self, name: str) -> type[RouterPolicy]:
        """The policy of a router mode that a program names; PluginNotFound."""
        if name not in self.policies:
            raise not_found(POLICY, name, self.policies)
        return self.policies[name]

    def settings_classes(self) -> list[type[Any]]:
        """The settings of everything that was loaded, chosen or not."""
        return [cls.settings for cls in self.origins if getattr(cls, "settings", None) is not None]

    def broken(self, cls: type[Any], stage: str, problem: str) -> PluginBroken:
        """The error for a class that failed."""
        return broken(self.origins[cls], stage, problem)

    async def open(self, cls: type[Any], host: Host) -> Any:
        """Open what was chosen; see `open_plugin`."""
        return await open_plugin(self.origins[cls], cls, host)

    def make(self, cls: type[Any], make: Callable[[], Any]) -> Any:
        """An object of a codec or a policy, made by `make`; PluginBroken if that fails."""
        try:
            return make()
        except ReqplaneError:
            raise
        except (Exception, SystemExit) as error:
            problem = f"making a {cls.__qualname__} raised {described(error)}"
            raise broken(self.origins[cls], "open", problem) from error


def load_plugins(
    settings: Settings,
    env: Mapping[str, str],
    *,
    entry_points: Iterable[EntryPoint] | None = None,
    extra: Mapping[str, object] | None = None,
    problems: Sequence[Problem] = (),
) -> Plugins:
    """The plugins that `settings` ask for, loaded and checked, and their variables checked too.

    `entry_points` stand in for the installed ones; `extra` are plugins that need none, by name;
    `problems` are those of the core's own variables.  PluginNotFound, PluginConflict, PluginBroken;
    SettingsError where a default is missing, a variable is wrong, or more than one thing is.
    """
    entries = installed() if entry_points is None else tuple(entry_points)
    loaded = [load_builtin()]
    loaded += [ask(Found(name, "(given)", "", ""), plugin) for name, plugin in (extra or {}).items()]
    loaded += [load(entry) for entry in wanted(entries, settings)]
    answers = by_name(loaded)
    check_choice(answers, choices(settings), env, entries, problems)
    return _plugins(loaded, answers, settings)


def load_discovery(
    settings: Settings, env: Mapping[str, str], *, entry_points: Iterable[EntryPoint] | None = None
) -> tuple[type[Discovery], Found]:
    """The chosen discovery backend alone and where it comes from, whatever planes are missing or broken.

    Raises what `load_plugins` does.
    """
    entries = installed() if entry_points is None else tuple(entry_points)
    extensions = [entry for entry in entries if entry.group == EXTENSIONS_GROUP]
    loaded = [load_builtin(), *(load(entry) for entry in wanted(extensions, settings))]
    answers = by_name(loaded)
    check_choice(answers, [(DISCOVERY, settings.discovery)], env, entries)
    cls, plugin = answers[DISCOVERY][settings.discovery]
    return cls, plugin.source


async def open_plugin(origin: Found, cls: type[Any], host: Host) -> Any:
    """Open a class of the plugin `origin`; PluginBroken if that fails by an error not of ours, or hangs."""
    contract = next(kind.contract for kind in KINDS if issubclass(cls, kind.contract)).__name__
    limit = asyncio.timeout(OPENING_SECONDS)
    try:
        async with limit:
            plugin = await cls.open(host)
    except ReqplaneError:
        raise
    except (Exception, SystemExit) as error:
        late = f"did not return within {OPENING_SECONDS:g} s"
        problem = late if limit.expired() else f"raised {described(error)}"
        raise broken(origin, "open", f"{cls.__qualname__}.open {problem}") from error
    if not isinstance(plugin, RequestTransport | ResponseTransport | Discovery):
        problem = f"{cls.__qualname__}.open answered {plugin!r:.60}; wanted a {contract}"
        raise broken(origin, "open", problem)
    return cast(Any, plugin)


def _plugins(loaded: Sequence[Loaded], answers: Answers, settings: Settings) -> Plugins:
    told = {id(plugin): found(plugin, settings) for plugin in loaded}

    def classes(kind: Kind) -> Mapping[str, Any]:
        return {name: cls for name, (cls, _) in answers[kind].items()}

    return Plugins(
        request_transports=classes(REQUEST_PLANE),
        response_transports=classes(RESPONSE),
        discovery_backends=classes(DISCOVERY),
        codecs=classes(CODEC),
        policies=classes(POLICY),
        observers=functools.partial(observers, loaded),
        found=tuple(told.values()),
        origins={cls: told[id(plugin)] for plugin in loaded for _, cls in plugin.answers},
    )
