"""The whole examination, from the variables to the workers.

What is wrong at one step does not keep the later ones from being looked at: what is missing or broken is
left out, and the rest opened as `connect()` would.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from reqplane.doctor.addresses import (
    Place,
    cannot_listen,
    check_advertised,
    check_listening,
    is_local,
    places,
)
from reqplane.doctor.folder import cannot_use, check_folder
from reqplane.doctor.installed import (
    check_plugins,
    check_python,
    check_versions,
    what_works,
    without_plane,
)
from reqplane.doctor.probe import Prober
from reqplane.doctor.records import addresses
from reqplane.doctor.report import Advice, Finding, Report, export, note, ok, wrong
from reqplane.doctor.surroundings import Surroundings
from reqplane.doctor.variables import check_names, check_values, listed
from reqplane.doctor.workers import check_workers
from reqplane.errors import DiscoveryUnavailable, PluginError, ReqplaneError, SettingsError
from reqplane.escaping import escape_log, masked_text
from reqplane.guarded import guarded_codec
from reqplane.host import RuntimeHost
from reqplane.interfaces import Discovery, PayloadCodec, RequestTransport, ResponseTransport
from reqplane.model import Instance
from reqplane.plugins import RESPONSE_PLANE, Found, Plugins, list_plugins, load_plugins
from reqplane.settings import Problem, Settings, collect, load
from reqplane.sockets import split_address, told_address

_MOST = 64
"""Workers that are probed."""
_PATIENCE = 5.0
"""Seconds that discovery may take for its listing, and each step of a probe."""


async def examine(env: Mapping[str, str], path: str | None) -> Report:
    """Look at everything; the workers of `path` are probed, or else all that there are."""
    (settings,), problems = collect([Settings], env)
    found = list_plugins(settings)
    known: list[type[Any]] = [Settings]
    findings = check_python() + check_versions() + check_plugins(settings, found)
    chosen = _choose(settings, found, env)
    if chosen is not None:
        known += chosen.plugins.settings_classes()
        problems += chosen.problems
    findings += check_values(problems) + check_names(env, known)
    if chosen is not None:
        with _overheard() as warnings:
            async with AsyncExitStack() as stack:
                examination = _Examination(chosen, found, stack, warnings)
                await examination.run(path)
        findings += examination.findings + [note(warning) for warning in dict.fromkeys(warnings)]
    return Report(tuple(listed(known, env)), tuple(findings))


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What can be looked at: settings and variables without those that are wrong."""

    settings: Settings
    env: Mapping[str, str]
    plugins: Plugins
    problems: Sequence[Problem]


def _choose(settings: Settings, found: Sequence[Found], env: Mapping[str, str]) -> _Chosen | None:
    """What is left without what is missing, broken or can't be read; None if plugins clash all the same."""
    works = what_works(settings, found)
    try:
        return _Chosen(works, env, load_plugins(works, env), ())
    except SettingsError as error:
        wrong_ones = {variable for variable, _, _ in error.problems}
        rest = {name: value for name, value in env.items() if name not in wrong_ones}
        problems = error.problems
    except PluginError:
        return None
    try:
        return _Chosen(works, rest, load_plugins(works, rest), problems)
    except ReqplaneError:
        return None


class _Examination:
    """Opens what was chosen, part by part, and looks at it."""

    def __init__(
        self, chosen: _Chosen, found: Sequence[Found], stack: AsyncExitStack, heard: list[str]
    ) -> None:
        self.findings: list[Finding] = []
        self._heard = heard
        self._silent = 0  # what was heard before the part that is looked at was opened
        self._settings, self._env, self._plugins = chosen.settings, chosen.env, chosen.plugins
        self._found = found
        self._stack = stack
        self._host = RuntimeHost(self._env, self._settings.limits(), dynamo=self._settings.dynamo)
        stack.push_async_callback(self._host.aclose)
        self._codecs = self._make_codecs()

    async def run(self, path: str | None) -> None:
        discovery = await self._open(self._plugins.discovery_backends[self._settings.discovery])
        instances: list[Instance] = []
        if discovery is not None and await self._works(discovery, self._another_backend()):
            instances = await self._list(discovery, path)
        transports = await self._open_planes(instances)
        response = await self._open(self._plugins.response_transports[RESPONSE_PLANE])
        place = self._place(response)
        if response is not None and await self._listen(response, place) and transports:
            ours = [one for one in instances if path in (None, str(one.endpoint))]
            await self._probe(self._reachable(ours, transports), transports, response, place)

    async def _open(self, cls: type[Any]) -> Any:
        """Open it for as long as we look; None if that fails, which is told."""
        self._silent = len(self._heard)
        try:
            opened = await self._plugins.open(cls, self._host)
        except DiscoveryUnavailable as error:
            self.findings.append(self._no_discovery(error))
        except ReqplaneError as error:
            self.findings.append(wrong(f"{cls.name} can't be opened: {error}", _read_on(error)))
        else:
            self._stack.push_async_callback(opened.aclose)
            return opened
        return None

    async def _works(self, opened: Discovery | RequestTransport[Any], instead: Advice | None) -> bool:
        """What it says of the servers that it depends on; whether it can be asked for more."""
        try:
            async with asyncio.timeout(_PATIENCE):
                told = list(await opened.diagnose())
        except Exception as error:  # whatever a plugin raises
            what = f"{opened.name} can't tell how it is: {type(error).__name__}: {error}"
            self.findings.append(note(what))
            return True
        for one in told:
            if one.verdict == "WRONG":
                advice = [Advice(one.remedy, one.commands)] if one.remedy else []
                self.findings.append(wrong(one.what, *advice, *([instead] if instead else [])))
            else:
                self.findings.append(Finding(one.verdict, masked_text(one.what)))
        if all(one.verdict != "WRONG" for one in told):
            return True
        del self._heard[self._silent :]  # the same, in a log's words
        return False

    def _make_codecs(self) -> dict[str, PayloadCodec]:
        made: dict[str, PayloadCodec] = {}
        for name, cls in self._plugins.codecs.items():
            try:
                made[name] = guarded_codec(self._plugins.make(cls, cls))
            except PluginError as error:
                self.findings.append(wrong(str(error), _read_on(error)))
        return made

    # ── discovery ──

    def _no_discovery(self, error: DiscoveryUnavailable) -> Finding:
        if self._settings.discovery == "file":
            return cannot_use(self._env, str(error))
        return wrong(str(error), *([instead] if (instead := self._another_backend()) else []))

    def _another_backend(self) -> Advice | None:
        if self._settings.discovery == "file":
            return None
        lines = (export("DYN_DISCOVERY_BACKEND", "file"),)
        return Advice("or use another backend, the same on all sides:", lines)

    async def _list(self, discovery: Discovery, path: str | None) -> list[Instance]:
        """The workers that there are, of all endpoints."""
        if self._settings.discovery == "file":
            self.findings.append(check_folder(self._env))
        if self._settings.discovery == "mem":
            self.findings.append(note("the mem backend reaches one process only: no other sees its workers"))
        try:
            async with asyncio.timeout(_PATIENCE):
                instances = await _listing(discovery)
        except TimeoutError:
            error = DiscoveryUnavailable(f"{discovery.place} gave no listing within {_PATIENCE:g} s")
            self.findings.append(self._no_discovery(error))
            return []
        except ReqplaneError as error:
            self.findings.append(wrong(str(error), _read_on(error)))
            return []
        endpoints = sorted({str(instance.endpoint) for instance in instances})
        self.findings.append(ok(f"{discovery.place} holds {_count(instances, endpoints)}"))
        if path is not None and path not in endpoints:
            self.findings.append(_nobody(path, endpoints, discovery.place, self._settings))
        return instances

    # ── addresses ──

    async def _open_planes(self, instances: Sequence[Instance]) -> list[RequestTransport[Any]]:
        """The request planes, each with a look at where it would listen."""
        transports: list[RequestTransport[Any]] = []
        for plane in self._settings.planes:
            transport = await self._open(self._plugins.request_transports[plane])
            if transport is None or not await self._works(transport, self._without(plane)):
                continue
            transports.append(transport)
            for place in self._places(self._plugins.request_transports[plane]):
                worker = await _worker_at(place, instances)
                found = await check_listening(place, self._host, worker)
                self.findings += [_of_workers_only(one) for one in found] if instances else found
        return transports

    def _without(self, plane: str) -> Advice | None:
        return without_plane(plane, self._settings.planes, self._found)

    def _reachable(
        self, instances: Sequence[Instance], transports: Sequence[RequestTransport[Any]]
    ) -> list[Instance]:
        """Those that are not only on planes of ours that do not work here, of which more was said."""
        down = set(self._settings.planes) - {one.name for one in transports}
        left = [one for one in instances if not down or set(one.planes) - down or not one.planes]
        if len(left) < len(instances):
            count = len(instances) - len(left)
            self.findings.append(note(f"workers on {','.join(sorted(down))} were not probed: {count}"))
        return left

    def _places(self, cls: type[Any]) -> list[Place]:
        return [] if cls.settings is None else list(places(load(cls.settings, self._env)))

    def _place(self, response: ResponseTransport | None) -> Place | None:
        return None if response is None else next(iter(self._places(type(response))), None)

    async def _listen(self, response: ResponseTransport, place: Place | None) -> bool:
        """Open the listener that workers connect to, and see whether its address leads there."""
        try:
            await response.listen()
        except SettingsError as error:
            self.findings.append(
                wrong(str(error), _read_on(error)) if place is None else cannot_listen(place, error)
            )
            return False
        if place is not None:
            host, number = split_address(response.advertised)
            self.findings += await check_advertised(place, host, number, "a frontend here")
        return True

    # ── workers ──

    async def _probe(
        self,
        instances: Sequence[Instance],
        transports: Sequence[RequestTransport[Any]],
        response: ResponseTransport,
        place: Place | None,
    ) -> None:
        around = Surroundings(
            env=self._env,
            discovery=self._settings.discovery,
            planes=self._settings.planes,
            found=self._found,
            transports=transports,
            codecs=self._codecs,
            host=self._host,
            response_place=place,
            home=response.advertised,
        )
        patience = min(self._settings.call_home_timeout, _PATIENCE)
        self.findings += await check_workers(instances[:_MOST], around, Prober(response, patience))
        if len(instances) > _MOST:
            self.findings.append(note(f"{len(instances) - _MOST} more workers were not probed"))


def _read_on(error: ReqplaneError) -> Advice:
    return Advice(f"see docs/errors.md#{type(error).__name__}")


async def _listing(discovery: Discovery) -> list[Instance]:
    async for changes in discovery.watch(None):
        found = [change.instance for change in changes if change.up]
        return sorted(found, key=lambda one: (str(one.endpoint), one.instance_id))
    return []


def _count(instances: Sequence[Instance], endpoints: Sequence[str]) -> str:
    workers = f"{len(instances)} worker{'' if len(instances) == 1 else 's'}"
    return (
        f"{workers} of {', '.join(endpoints[:5])}{' …' if len(endpoints) > 5 else ''}"
        if endpoints
        else "no worker"
    )


def _nobody(path: str, endpoints: Sequence[str], where: str, settings: Settings) -> Finding:
    what = f"No instances found: no worker of {path} is registered in {where}"
    if close := difflib.get_close_matches(path, endpoints, n=1):
        what += f"; did you mean {close[0]}?"
    chosen = f"DYN_REQUEST_PLANE={','.join(settings.planes)} DYN_DISCOVERY_BACKEND={settings.discovery}"
    return wrong(
        what,
        Advice(f"start one, with the same variables: {chosen} reqplane serve MODULE:FUNCTION {path}"),
        Advice("if one was started this moment, wait a few seconds; `reqplane instances` lists who is there"),
    )


def _of_workers_only(finding: Finding) -> Finding:
    """A frontend, whose workers are elsewhere, does not mind that no worker could listen here."""
    if finding.verdict != "WRONG":
        return finding
    what = f"{finding.what}; a frontend does not mind, but no worker can be started here like this"
    return note(what, *finding.advice)


async def _worker_at(place: Place, instances: Sequence[Instance]) -> str | None:
    """The registered worker of this machine that has the place's port.

    It may tell an address that only others know this machine by, as one in a container does.
    """
    for instance in instances:
        for address in addresses(instance):
            host, number = split_address(address)
            behind = place.advertised and (host, number) == told_address(place.advertised, place.port or 0)
            if behind or (number == place.port and await is_local(host)):
                return f"a worker of {instance.endpoint}"
    return None


@contextmanager
def _overheard() -> Generator[list[str]]:
    """What the parts would log as warnings while they are looked at."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    log, ear = logging.getLogger("reqplane"), Ear(logging.WARNING)
    escape_log(log)
    log.addHandler(ear)
    try:
        yield heard
    finally:
        log.removeHandler(ear)
