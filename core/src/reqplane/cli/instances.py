"""`reqplane instances`: which workers discovery holds, on whatever plane they are.

Only the discovery backend is opened, so it works where the chosen request plane is missing or broken.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

from reqplane.cli.arguments import Commands, add_command, endpoint_path
from reqplane.cli.tables import line, table, widths
from reqplane.errors import DiscoveryUnavailable, NoInstances
from reqplane.escaping import escaped, masked
from reqplane.host import RuntimeHost
from reqplane.interfaces import Discovery
from reqplane.model import Change, EndpointId, Instance
from reqplane.plugins import load_discovery, open_plugin
from reqplane.settings import Settings, environment, load

_PATIENCE = 10.0
"""Seconds that discovery may take to tell what there is."""
_HEAD = ("PATH", "INSTANCE", "PLANES", "AGE", "ADDRESS")
_WIDEST = 100
"""Characters that are shown of one cell."""
_ORIGIN = re.compile(r"^((?:[A-Za-z][A-Za-z0-9+.-]*://)?[^/]+)/.*", re.DOTALL)
"""The path that follows scheme, host and port."""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "instances",
        run,
        summary="list the workers that discovery holds",
        example="reqplane instances --watch default.backend.generate",
    )
    parser.add_argument("path", metavar="PATH", nargs="?", type=endpoint_path, help="of this endpoint only")
    parser.add_argument(
        "--watch", action="store_true", help="go on and tell who comes and goes, until Ctrl-C"
    )
    parser.add_argument("--json", action="store_true", help="an array; with --watch an object a line")


def run(arguments: Any) -> int:
    endpoint = EndpointId.parse(arguments.path) if arguments.path else None
    asyncio.run(_show(endpoint, watch=arguments.watch, as_json=arguments.json))
    return 0


async def _show(endpoint: EndpointId | None, *, watch: bool, as_json: bool) -> None:
    async with _discovery(environment()) as discovery:
        changes = discovery.watch(endpoint)
        listing = await _listing(discovery, changes)
        if not listing:
            print(await _nothing(discovery, endpoint), file=sys.stderr, flush=True)
        if watch:
            await _print_changes(listing, changes, as_json)
        elif as_json:
            print(json.dumps([_members(change.instance) for change in listing], indent=2))
        else:
            rows = [_HEAD, *(_cells(change.instance) for change in listing)]
            print(table(rows))


async def _print_changes(
    listing: Sequence[Change], changes: AsyncIterator[list[Change]], as_json: bool
) -> None:
    """The listing and then each change, a line each, as they come."""
    head = ("CHANGE", *_HEAD)
    wide = widths([head, *map(_change_cells, listing)])
    if not as_json:
        print(line(head, wide), flush=True)
    async for change in _all(listing, changes):
        shown = json.dumps(_change_members(change)) if as_json else line(_change_cells(change), wide)
        print(shown, flush=True)


async def _all(listing: Iterable[Change], changes: AsyncIterator[list[Change]]) -> AsyncIterator[Change]:
    for change in listing:
        yield change
    async for batch in changes:
        for change in batch:
            yield change


# ── asking discovery ────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def _discovery(env: Mapping[str, str]) -> AsyncGenerator[Discovery]:
    """The backend that the settings name, opened."""
    settings = load(Settings, env)
    cls, origin = load_discovery(settings, env)
    async with AsyncExitStack() as stack:
        host = RuntimeHost(env, settings.limits(), dynamo=settings.dynamo)
        stack.push_async_callback(host.aclose)
        discovery: Discovery = await open_plugin(origin, cls, host)
        stack.push_async_callback(discovery.aclose)
        yield discovery


async def _listing(discovery: Discovery, changes: AsyncIterator[list[Change]]) -> list[Change]:
    """What there is, by path and number."""
    nothing: list[Change] = []
    try:
        async with asyncio.timeout(_PATIENCE):
            first = await anext(changes, nothing)
    except TimeoutError:
        raise DiscoveryUnavailable(
            f"{discovery.place} did not tell within {_PATIENCE:g} s which workers there are"
        ) from None
    return sorted(first, key=lambda change: (str(change.instance.endpoint), change.instance.instance_id))


async def _nothing(discovery: Discovery, endpoint: EndpointId | None) -> str:
    """Where nobody was found, and what there is instead."""
    if endpoint is None:
        return f"no worker is registered in {discovery.place}"
    others = {str(change.instance.endpoint) for change in await _listing(discovery, discovery.watch(None))}
    missing = NoInstances(endpoint=str(endpoint), planes=(), where=discovery.place, others=sorted(others))
    return missing.summary()


# ── for programs ────────────────────────────────────────────────────────────────────────────────────


def _members(instance: Instance) -> dict[str, Any]:
    return {
        "path": str(instance.endpoint),
        "instance": instance.instance_id,
        "incarnation": instance.incarnation,
        "planes": list(instance.planes),
        "address": _address(instance),
        "age": _age(instance),
        "version": instance.version,
        "codec": instance.codec,
        "transport": _without_secrets(instance.transport),
    }


def _without_secrets(value: Any) -> Any:
    """A record's member; records of others may hold URLs with a user and a password."""
    if isinstance(value, Mapping):
        members = cast(Mapping[str, Any], value)
        return {name: _without_secrets(member) for name, member in members.items()}
    if isinstance(value, list):
        return [_without_secrets(member) for member in cast(list[Any], value)]
    return masked(value) if isinstance(value, str) else value


def _change_members(change: Change) -> dict[str, Any]:
    return {"change": _direction(change), **_members(change.instance)}


def _direction(change: Change) -> str:
    return "up" if change.up else "down"


def _age(instance: Instance) -> float | None:
    """Seconds since it began to serve; None where its record does not say.  Clocks may differ a little."""
    return None if instance.started is None else round(max(time.time() - instance.started, 0.0), 1)


def _address(instance: Instance) -> str:
    """Where its planes reach it, without the paths behind."""
    texts = [masked(text) for member in instance.transport.values() if (text := _text(member))]
    return ", ".join(dict.fromkeys(_ORIGIN.sub(r"\1", text) for text in texts))


def _text(member: object) -> str | None:
    """The address in one plane's part of the record: itself, or its URL, or else its first text."""
    if isinstance(member, str):
        return member
    if not isinstance(member, Mapping):
        return None
    texts = [text for text in cast(Mapping[str, object], member).values() if isinstance(text, str)]
    return next((text for text in texts if "://" in text), texts[0] if texts else None)


# ── for people ──────────────────────────────────────────────────────────────────────────────────────


def _cells(instance: Instance) -> tuple[str, ...]:
    age = _age(instance)
    return (
        str(instance.endpoint),
        str(instance.instance_id),
        _shown(",".join(instance.planes)),
        "-" if age is None else _duration(age),
        _shown(_address(instance)),
    )


def _change_cells(change: Change) -> tuple[str, ...]:
    return (_direction(change), *_cells(change.instance))


def _shown(text: str) -> str:
    """What others wrote: nothing that a terminal would obey, and not too long."""
    shown = escaped(text[:_WIDEST], keep="")
    return (f"{shown}…" if len(text) > _WIDEST else shown) or "-"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
