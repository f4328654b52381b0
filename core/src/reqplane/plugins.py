"""Finds, loads, checks and names plugins; every complaint about a plugin is made here.

    entry point ─► looked up by name ─► imported ─► registered ─► asked the questions ─► answers checked
              PluginNotFound, PluginConflict   "import"     "hooks"                 "contract"

    chosen class ─► opened, or made: "open"

The words in quotes are the stages of a PluginBroken.  Two groups of entry points are read:
`reqplane.transports` by name, so that a broken plugin nobody chose hurts nobody, and
`reqplane.extensions` whole, but for those in DYN_DISABLED_EXTENSIONS.  Each plugin is asked through a
plugin manager of its own, so it is always known who answered.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import importlib.metadata
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, cast

import pluggy

from reqplane import builtin, hookspecs
from reqplane.errors import (
    PluginBroken,
    PluginConflict,
    PluginError,
    PluginNotFound,
    ReqplaneError,
    SettingsError,
)
from reqplane.escaping import escaped
from reqplane.hookspecs import EXTENSIONS_GROUP, PROJECT, TRANSPORTS_GROUP
from reqplane.interfaces import (
    Discovery,
    Host,
    Observer,
    PayloadCodec,
    RequestTransport,
    ResponseTransport,
    RouterPolicy,
)
from reqplane.model import Capabilities
from reqplane.settings import Problem, Settings, collect

RESPONSE_PLANE = "tcp_stream"
"""The one response plane; request planes bring it along."""

OPENING_SECONDS = 30.0
"""What opening one plugin may take."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One question that is answered with classes: what they are called, who asks, what they must be."""

    what: str
    hook: str
    contract: type[Any]
    variable: str = ""


REQUEST_PLANE = Kind(
    "request plane", "reqplane_request_transports", RequestTransport, variable="DYN_REQUEST_PLANE"
)
RESPONSE = Kind("response plane", "reqplane_response_transports", ResponseTransport)
DISCOVERY = Kind(
    "discovery backend", "reqplane_discovery_backends", Discovery, variable="DYN_DISCOVERY_BACKEND"
)
CODEC = Kind("codec", "reqplane_payload_codecs", PayloadCodec, variable="DYN_REQUEST_PLANE_CODEC")
POLICY = Kind("router mode", "reqplane_router_policies", RouterPolicy, variable="DYN_ROUTER_MODE")
KINDS = (REQUEST_PLANE, RESPONSE, DISCOVERY, CODEC, POLICY)

OBSERVERS_HOOK = "reqplane_observers"

# Where what we publish comes from.  A name that is not ours gets no such hint: anybody could own it.
_PUBLISHED = {
    (REQUEST_PLANE, "http"): "`pip install reqplane-http`",
    (REQUEST_PLANE, "nats"): "`pip install reqplane-nats`, once that is released",
    (REQUEST_PLANE, "tcp"): "`pip install reqplane-tcp`, once that is released",
    (RESPONSE, RESPONSE_PLANE): "`pip install reqplane-tcp-stream`",
    (DISCOVERY, "etcd"): '`pip install "reqplane[etcd]"`, once that is released',
}

# What works without a server, for those who did not choose anything.
_SERVERLESS = {REQUEST_PLANE: "http", DISCOVERY: "file"}


# ── what comes out ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing that a plugin offers, and whether the settings choose it."""

    kind: str
    name: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin: where it comes from, what it offers and, where that is so, why it can't be used."""

    name: str
    distribution: str
    version: str
    group: str
    offers: tuple[Offer, ...] = ()
    disabled: bool = False
    broken: str | None = None

    @property
    def chosen(self) -> bool:
        """Whether anything that it offers is in use."""
        return any(offer.chosen for offer in self.offers)


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
            raise _not_found(POLICY, name, self.policies)
        return self.policies[name]

    def settings_classes(self) -> list[type[Any]]:
        """The settings of everything that was loaded, chosen or not."""
        return [cls.settings for cls in self.origins if getattr(cls, "settings", None) is not None]

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
            problem = f"making a {cls.__qualname__} raised {_described(error)}"
            raise _broken(self.origins[cls], "open", problem) from error


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
        problem = late if limit.expired() else f"raised {_described(error)}"
        raise _broken(origin, "open", f"{cls.__qualname__}.open {problem}") from error
    if not isinstance(plugin, RequestTransport | ResponseTransport | Discovery):
        problem = f"{cls.__qualname__}.open answered {plugin!r:.60}; wanted a {contract}"
        raise _broken(origin, "open", problem)
    return cast(Any, plugin)


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
    loaded = [_load_builtin()]
    loaded += [_ask(Found(name, "(given)", "", ""), plugin) for name, plugin in (extra or {}).items()]
    loaded += [_load(entry) for entry in _wanted(entries, settings)]
    answers = _by_name(loaded)
    _check_choice(answers, _choices(settings), env, entries, problems)
    return _plugins(loaded, answers, settings)


def load_discovery(
    settings: Settings, env: Mapping[str, str], *, entry_points: Iterable[EntryPoint] | None = None
) -> tuple[type[Discovery], Found]:
    """The chosen discovery backend alone and where it comes from, whatever planes are missing or broken.

    Raises what `load_plugins` does.
    """
    entries = installed() if entry_points is None else tuple(entry_points)
    extensions = [entry for entry in entries if entry.group == EXTENSIONS_GROUP]
    loaded = [_load_builtin(), *(_load(entry) for entry in _wanted(extensions, settings))]
    answers = _by_name(loaded)
    _check_choice(answers, [(DISCOVERY, settings.discovery)], env, entries)
    cls, plugin = answers[DISCOVERY][settings.discovery]
    return cls, plugin.source


def list_plugins(settings: Settings, *, entry_points: Iterable[EntryPoint] | None = None) -> list[Found]:
    """Every installed plugin, chosen or not.  What is broken is told, never raised."""
    entries = installed() if entry_points is None else tuple(entry_points)
    ordered = sorted(entries, key=_transports_first)
    attempts: list[_Loaded | Found] = [_attempt(_BUILTIN, _load_builtin)]
    attempts += [_attempt_entry(entry, entries, settings) for entry in ordered]
    return [*_without_clashes(attempts, settings)]


@functools.cache
def installed() -> tuple[EntryPoint, ...]:
    """The entry points of this process's distributions.  Scanning them all takes some 40 ms: once."""
    everything = importlib.metadata.entry_points()
    return (*everything.select(group=TRANSPORTS_GROUP), *everything.select(group=EXTENSIONS_GROUP))


# ── finding ─────────────────────────────────────────────────────────────────────────────────────────


def _wanted(entries: Sequence[EntryPoint], settings: Settings) -> list[EntryPoint]:
    """The entry points to load; PluginConflict if two of them have one name."""
    wanted = sorted(
        (entry for entry in entries if _is_wanted(entry, settings)),
        key=_transports_first,
    )
    for entry in wanted:
        _check_unique(entry, entries)
    return wanted


def _transports_first(entry: EntryPoint) -> tuple[bool, str]:
    return entry.group != TRANSPORTS_GROUP, entry.name


def _is_wanted(entry: EntryPoint, settings: Settings) -> bool:
    if entry.group == TRANSPORTS_GROUP:
        return entry.name == RESPONSE_PLANE or entry.name in settings.planes
    return entry.group == EXTENSIONS_GROUP and entry.name not in settings.disabled_extensions


def _check_unique(entry: EntryPoint, entries: Sequence[EntryPoint]) -> None:
    claims = [other for other in entries if (other.group, other.name) == (entry.group, entry.name)]
    if len(claims) > 1:
        kind = "transport" if entry.group == TRANSPORTS_GROUP else "extension"
        raise PluginConflict(kind, entry.name, sorted(_source(claim).distribution for claim in claims))


def _source(entry: EntryPoint) -> Found:
    distribution = entry.dist
    if distribution is None:
        return Found(entry.name, "an unknown distribution", "", entry.group)
    return Found(entry.name, distribution.name, distribution.version, entry.group)


# ── loading ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A plugin that was asked and answered."""

    source: Found
    answers: tuple[tuple[Kind, type[Any]], ...]
    manager: pluggy.PluginManager

    @property
    def observes(self) -> bool:
        return bool(getattr(self.manager.hook, OBSERVERS_HOOK).get_hookimpls())

    def found(self, settings: Settings) -> Found:
        """What there is to tell about it."""
        chosen = set(_choices(settings))
        offers = [Offer(kind.what, cls.name, (kind, cls.name) in chosen) for kind, cls in self.answers]
        if self.observes:
            offers.append(Offer("observer", self.source.name, chosen=True))
        return dataclasses.replace(self.source, offers=tuple(offers))


_BUILTIN = Found("builtin", PROJECT, "", "")


def _load_builtin() -> _Loaded:
    try:
        version = importlib.metadata.version(PROJECT)
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        version = ""
    return _ask(dataclasses.replace(_BUILTIN, version=version), builtin)


def _load(entry: EntryPoint) -> _Loaded:
    source = _source(entry)
    try:
        plugin = entry.load()
    except (Exception, SystemExit) as error:
        raise _broken(source, "import", _described(error)) from error
    loaded = _ask(source, plugin)
    if entry.group == TRANSPORTS_GROUP:
        _check_promise(loaded)
    return loaded


def _ask(source: Found, plugin: object) -> _Loaded:
    """Register one plugin, alone, and ask it everything that is answered with classes."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    if plugin is None:
        raise _broken(source, "hooks", "its entry point names None")
    try:
        manager.register(plugin, source.name)
        manager.check_pending()
    except Exception as error:
        raise _broken(source, "hooks", str(error)) from error
    _check_marks(source, plugin, manager)
    answers = [(kind, cls) for kind in KINDS for cls in _answer(source, manager, kind)]
    return _Loaded(source, tuple(answers), manager)


def _check_marks(source: Found, plugin: object, manager: pluggy.PluginManager) -> None:
    """Find what pluggy lets pass: a hook that is not marked is never called, a wrapper hears others."""
    for name, member in inspect.getmembers_static(plugin, inspect.isfunction):
        is_marked = hasattr(member, f"{PROJECT}_impl") or hasattr(member, f"{PROJECT}_spec")
        if name.startswith(f"{PROJECT}_") and not is_marked:
            raise _broken(source, "hooks", f"{name} is not marked by @hookimpl, so it is never called")
    for caller in manager.get_hookcallers(plugin) or ():
        if any(impl.wrapper or impl.hookwrapper for impl in caller.get_hookimpls()):
            raise _broken(source, "hooks", f"{caller.name} is a wrapper, which Reqplane's hooks can't be")


def _call(source: Found, manager: pluggy.PluginManager, hook: str, **arguments: Any) -> list[Any]:
    """What the plugin answers to one hook: lists, joined."""
    caller = getattr(manager.hook, hook)
    if not caller.get_hookimpls():
        return []
    try:
        answers: list[object] = caller(**arguments)
    except (Exception, SystemExit) as error:
        raise _broken(source, "hooks", f"{hook} raised {_described(error)}") from error
    if not answers:
        raise _broken(source, "contract", f"{hook} answered None; wanted a list")
    return [item for answer in answers for item in _items(source, hook, answer)]


def _items(source: Found, hook: str, answer: object) -> Sequence[Any]:
    if not isinstance(answer, list | tuple):
        raise _broken(source, "contract", f"{hook} answered {answer!r:.60}; wanted a list")
    return cast(Sequence[Any], answer)


# ── checking ────────────────────────────────────────────────────────────────────────────────────────


def _answer(source: Found, manager: pluggy.PluginManager, kind: Kind) -> list[type[Any]]:
    """The classes that a plugin offers of one kind, each as it must be."""
    classes: list[type[Any]] = []
    for cls in _call(source, manager, kind.hook):
        problem = _fault(cls, kind)
        if problem is None and any(cls.name == other.name for other in classes):
            problem = f"offers the name {cls.name!r} twice"
        if problem is not None:
            raise _broken(source, "contract", f"{kind.hook}: {problem}")
        classes.append(cls)
    return classes


def _fault(cls: Any, kind: Kind) -> str | None:
    """What is wrong with one answer, if anything."""
    contract = kind.contract.__name__
    if not isinstance(cls, type):
        return f"{cls!r:.60} is not a class; wanted a subclass of {contract}"
    if not issubclass(cls, kind.contract):
        return f"{cls.__qualname__} is not a subclass of {contract}"
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        return f"{cls.__qualname__} lacks {', '.join(missing)}, which {contract} asks for"
    name: object = getattr(cls, "name", None)
    if not isinstance(name, str):
        return f'{cls.__qualname__} has no name: wanted `name = "…"` in the class'
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        return f"{cls.__qualname__}.name is {name!r}; wanted letters, digits, '_' and '-'"
    if kind is REQUEST_PLANE and not isinstance(getattr(cls, "capabilities", None), Capabilities):
        return f"{cls.__qualname__} has no capabilities: wanted `capabilities = Capabilities(…)`"
    return None


def _check_promise(loaded: _Loaded) -> None:
    """A transport is found by its entry point's name, so it must have that name itself."""
    promised = loaded.source.name
    names = [cls.name for kind, cls in loaded.answers if kind in (REQUEST_PLANE, RESPONSE)]
    if not names:
        raise _broken(loaded.source, "contract", "it offers no transport")
    for name in names:
        if name != promised:
            problem = f"its transport is named {name!r}, its entry point {promised!r}"
            raise _broken(loaded.source, "contract", problem)


def _broken(source: Found, stage: str, problem: str) -> PluginBroken:
    problem = _visible(problem)
    if source.group == EXTENSIONS_GROUP:
        problem += f" (DYN_DISABLED_EXTENSIONS={source.name} leaves it out)"
    return PluginBroken(source.name, source.distribution, stage, problem)


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _visible(text: str) -> str:
    """On one line, without addresses of objects, and with nothing in it that would steer a terminal."""
    line = re.sub(r" at 0x[0-9a-f]+", "", " ".join(text.split()))
    return escaped(line, keep="")


# ── choosing ────────────────────────────────────────────────────────────────────────────────────────

_Answers = Mapping[Kind, Mapping[str, tuple[type[Any], _Loaded]]]


def _by_name(loaded: Iterable[_Loaded]) -> _Answers:
    """Every class by kind and name; PluginConflict if two plugins offer the same."""
    answers: dict[Kind, dict[str, tuple[type[Any], _Loaded]]] = {kind: {} for kind in KINDS}
    for plugin in loaded:
        for kind, cls in plugin.answers:
            _, first = answers[kind].setdefault(cls.name, (cls, plugin))
            if first is not plugin:
                raise _clash(kind, cls.name, first.source, plugin.source)
    return answers


def _clash(kind: Kind, name: str, first: Found, second: Found) -> PluginConflict:
    return PluginConflict(kind.what, name, [first.distribution, second.distribution])


def _choices(settings: Settings) -> list[tuple[Kind, str]]:
    """What the settings name."""
    planes = [(REQUEST_PLANE, plane) for plane in settings.planes]
    return [
        *planes,
        (RESPONSE, RESPONSE_PLANE),
        (DISCOVERY, settings.discovery),
        (CODEC, settings.codec),
        (POLICY, settings.router_mode),
    ]


def _problems_of_chosen(
    answers: _Answers, choices: Sequence[tuple[Kind, str]], env: Mapping[str, str]
) -> list[Problem]:
    """What is wrong with the variables of the plugins that were chosen and are there."""
    chosen = [answers[kind][name][0] for kind, name in choices if name in answers[kind]]
    classes = [cls.settings for cls in chosen if getattr(cls, "settings", None) is not None]
    return collect(classes, env)[1]


def _check_choice(
    answers: _Answers,
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
        _not_found(kind, name, _installed_names(kind, answers, entries))
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


def _installed_names(kind: Kind, answers: _Answers, entries: Iterable[EntryPoint]) -> set[str]:
    names = set(answers[kind])
    if kind is REQUEST_PLANE:  # those that nobody chose are not loaded, and known by their entry points
        names |= {entry.name for entry in entries if entry.group == TRANSPORTS_GROUP} - {RESPONSE_PLANE}
    return names


def _not_found(kind: Kind, name: str, installed_names: Iterable[str]) -> PluginError | SettingsError:
    if kind is POLICY and name == "kv":
        return SettingsError([(kind.variable, name, "routing by KV cache is not there yet")])
    line = _PUBLISHED.get((kind, name))
    return PluginNotFound(kind.what, name, installed_names, f"install it: {line}" if line else "")


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


# ── putting together ────────────────────────────────────────────────────────────────────────────────


def _plugins(loaded: Sequence[_Loaded], answers: _Answers, settings: Settings) -> Plugins:
    found = {id(plugin): plugin.found(settings) for plugin in loaded}

    def classes(kind: Kind) -> Mapping[str, Any]:
        return {name: cls for name, (cls, _) in answers[kind].items()}

    return Plugins(
        request_transports=classes(REQUEST_PLANE),
        response_transports=classes(RESPONSE),
        discovery_backends=classes(DISCOVERY),
        codecs=classes(CODEC),
        policies=classes(POLICY),
        observers=functools.partial(_observers, loaded),
        found=tuple(found.values()),
        origins={cls: found[id(plugin)] for plugin in loaded for _, cls in plugin.answers},
    )


def _observers(loaded: Iterable[_Loaded], env: Mapping[str, str]) -> tuple[Observer, ...]:
    observers: list[Observer] = []
    for plugin in loaded:
        for observer in _call(plugin.source, plugin.manager, OBSERVERS_HOOK, settings=env):
            if not isinstance(observer, Observer):
                raise _broken(plugin.source, "contract", f"{observer!r} is not an Observer")
            observers.append(observer)
    return tuple(observers)


# ── the listing ─────────────────────────────────────────────────────────────────────────────────────


def _attempt(source: Found, load: Callable[[], _Loaded]) -> _Loaded | Found:
    try:
        return load()
    except PluginError as error:
        return dataclasses.replace(source, broken=str(error))


def _attempt_entry(entry: EntryPoint, entries: Sequence[EntryPoint], settings: Settings) -> _Loaded | Found:
    source = _source(entry)
    if entry.group == EXTENSIONS_GROUP and entry.name in settings.disabled_extensions:
        return dataclasses.replace(source, disabled=True)

    def load() -> _Loaded:
        _check_unique(entry, entries)
        return _load(entry)

    return _attempt(source, load)


def _without_clashes(attempts: Iterable[_Loaded | Found], settings: Settings) -> Iterator[Found]:
    """Tell of each plugin; of two that offer the same, the later one is the broken one."""
    first: dict[tuple[Kind, str], Found] = {}
    for attempt in attempts:
        if isinstance(attempt, Found):
            yield attempt
            continue
        found = attempt.found(settings)
        for kind, cls in attempt.answers:
            holder = first.setdefault((kind, cls.name), attempt.source)
            if holder is not attempt.source:
                clash = _clash(kind, cls.name, holder, attempt.source)
                found = dataclasses.replace(found, broken=str(clash))
        yield found
