"""One plugin: imported, registered, asked what it offers, its answers checked."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, cast

import pluggy

from reqplane import builtin, hookspecs
from reqplane.errors import PluginBroken, SettingsError
from reqplane.escaping import escaped
from reqplane.hookspecs import EXTENSIONS_GROUP, PROJECT, TRANSPORTS_GROUP
from reqplane.interfaces import Observer
from reqplane.model import Capabilities
from reqplane.plugins.finding import source_of
from reqplane.plugins.kinds import KINDS, OBSERVERS_HOOK, REQUEST_PLANE, RESPONSE, Found, Kind


@dataclass(frozen=True, slots=True)
class Loaded:
    """A plugin that was asked and answered."""

    source: Found
    answers: tuple[tuple[Kind, type[Any]], ...]
    manager: pluggy.PluginManager

    @property
    def observes(self) -> bool:
        return bool(getattr(self.manager.hook, OBSERVERS_HOOK).get_hookimpls())


BUILTIN = Found("builtin", PROJECT, "", "")


def load_builtin() -> Loaded:
    try:
        version = importlib.metadata.version(PROJECT)
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        version = ""
    return ask(dataclasses.replace(BUILTIN, version=version), builtin)


def load(entry: EntryPoint) -> Loaded:
    source = source_of(entry)
    try:
        plugin = entry.load()
    except (Exception, SystemExit) as error:
        raise broken(source, "import", described(error)) from error
    loaded = ask(source, plugin)
    if entry.group == TRANSPORTS_GROUP:
        _check_promise(loaded)
    return loaded


def ask(source: Found, plugin: object) -> Loaded:
    """Register one plugin, alone, and ask it everything that is answered with classes."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    if plugin is None:
        raise broken(source, "hooks", "its entry point names None")
    try:
        manager.register(plugin, source.name)
        manager.check_pending()
    except Exception as error:
        raise broken(source, "hooks", str(error)) from error
    _check_marks(source, plugin, manager)
    answers = [(kind, cls) for kind in KINDS for cls in _answer(source, manager, kind)]
    return Loaded(source, tuple(answers), manager)


def _check_marks(source: Found, plugin: object, manager: pluggy.PluginManager) -> None:
    """Find what pluggy lets pass: a hook that is not marked is never called, a wrapper hears others."""
    for name, member in inspect.getmembers_static(plugin, inspect.isfunction):
        is_marked = hasattr(member, f"{PROJECT}_impl") or hasattr(member, f"{PROJECT}_spec")
        if name.startswith(f"{PROJECT}_") and not is_marked:
            raise broken(source, "hooks", f"{name} is not marked by @hookimpl, so it is never called")
    for caller in manager.get_hookcallers(plugin) or ():
        if any(impl.wrapper or impl.hookwrapper for impl in caller.get_hookimpls()):
            raise broken(source, "hooks", f"{caller.name} is a wrapper, which Reqplane's hooks can't be")


def call(source: Found, manager: pluggy.PluginManager, hook: str, **arguments: Any) -> list[Any]:
    """What the plugin answers to one hook: lists, joined."""
    caller = getattr(manager.hook, hook)
    if not caller.get_hookimpls():
        return []
    try:
        answers: list[object] = caller(**arguments)
    except SettingsError:  # of an observer, which reads its own
        raise
    except (Exception, SystemExit) as error:
        raise broken(source, "hooks", f"{hook} raised {described(error)}") from error
    if not answers:
        raise broken(source, "contract", f"{hook} answered None; wanted a list")
    return [item for answer in answers for item in _items(source, hook, answer)]


def _items(source: Found, hook: str, answer: object) -> Sequence[Any]:
    if not isinstance(answer, list | tuple):
        raise broken(source, "contract", f"{hook} answered {answer!r:.60}; wanted a list")
    return cast(Sequence[Any], answer)


# ── checking ────────────────────────────────────────────────────────────────────────────────────────


def _answer(source: Found, manager: pluggy.PluginManager, kind: Kind) -> list[type[Any]]:
    """The classes that a plugin offers of one kind, each as it must be."""
    classes: list[type[Any]] = []
    for cls in call(source, manager, kind.hook):
        problem = _fault(cls, kind)
        if problem is None and any(cls.name == other.name for other in classes):
            problem = f"offers the name {cls.name!r} twice"
        if problem is not None:
            raise broken(source, "contract", f"{kind.hook}: {problem}")
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


def _check_promise(loaded: Loaded) -> None:
    """A transport is found by its entry point's name, so it must have that name itself."""
    promised = loaded.source.name
    names = [cls.name for kind, cls in loaded.answers if kind in (REQUEST_PLANE, RESPONSE)]
    if not names:
        raise broken(loaded.source, "contract", "it offers no transport")
    for name in names:
        if name != promised:
            problem = f"its transport is named {name!r}, its entry point {promised!r}"
            raise broken(loaded.source, "contract", problem)


def broken(source: Found, stage: str, problem: str) -> PluginBroken:
    problem = _visible(problem)
    if source.group == EXTENSIONS_GROUP:
        problem += f" (DYN_DISABLED_EXTENSIONS={source.name} leaves it out)"
    return PluginBroken(source.name, source.distribution, stage, problem)


def described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _visible(text: str) -> str:
    """On one line, without addresses of objects, and with nothing in it that would steer a terminal."""
    line = re.sub(r" at 0x[0-9a-f]+", "", " ".join(text.split()))
    return escaped(line, keep="")


def observers(loaded: Iterable[Loaded], env: Mapping[str, str]) -> tuple[Observer, ...]:
    found: list[Observer] = []
    for plugin in loaded:
        for observer in call(plugin.source, plugin.manager, OBSERVERS_HOOK, settings=env):
            if not isinstance(observer, Observer):
                raise broken(plugin.source, "contract", f"{observer!r} is not an Observer")
            found.append(observer)
    return tuple(found)
