"""Which endpoints the front offers, how many workers each has, and a client of each that was asked for."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from http import HTTPStatus

from reqplane.client import Client
from reqplane.errors import DiscoveryError, DiscoveryUnavailable, NoInstances
from reqplane.front.problems import AGAIN, Problem
from reqplane.model import Change, EndpointId, Instance
from reqplane.runtime import DistributedRuntime

log = logging.getLogger("reqplane")

MOST_CLIENTS = 1000
"""Endpoints that are followed; a client is never given back."""
_PATIENCE = 5.0
"""Seconds that a request waits for discovery to tell anything at all."""
_RETRY_PAUSE = 0.25


class Endpoints:
    """One watch follows everything that there is.

    Clients are made when they are first needed, and only of endpoints that discovery holds: whoever makes
    up paths must not make us follow each of them, or ask for each.
    """

    def __init__(self, runtime: DistributedRuntime, patterns: Sequence[str]) -> None:
        self._runtime = runtime
        self._patterns = patterns
        self._clients: dict[str, Client] = {}
        self._workers: dict[tuple[str, int], Instance] = {}
        self._listed = asyncio.Event()

    # ── what there is ──

    async def follow(self) -> None:
        """Keep up with discovery until cancelled."""
        while True:
            try:
                listing = True
                async for changes in self._runtime.watch():
                    if listing:
                        self._workers.clear()
                        listing = False
                    self._apply(changes)
                    self._listed.set()
            except DiscoveryError as error:
                log.warning("following all endpoints failed, trying again: %s", error)
            except Exception:
                log.exception("following all endpoints failed, trying again")
            await asyncio.sleep(_RETRY_PAUSE)

    def _apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            instance = change.instance
            key = (str(instance.endpoint), instance.incarnation)
            held = self._workers.get(key)
            if change.up:
                self._workers[key] = instance
            elif held is not None and held.instance_id == instance.instance_id:
                del self._workers[key]

    def known(self) -> dict[str, int]:
        """How many workers can be reached of each endpoint that is offered, and was called or is there.

        Of one that was called its client knows; of another one, those that are on a plane of ours.
        """
        ours = set(self._runtime.planes)
        count = Counter(dict.fromkeys(self._held(), 0))
        for (path, _), one in self._workers.items():
            if path in count and ours & set(one.planes) and not one.draining:
                count[path] += 1
        called = {path: len(client.instances()) for path, client in self._clients.items()}
        return dict(sorted({**count, **called}.items()))

    def _held(self) -> list[str]:
        """The paths of what discovery holds and is offered."""
        return sorted({path for path, _ in self._workers if self._is_offered(path)})

    def _is_offered(self, path: str) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in self._patterns)

    # ── clients ──

    async def client(self, text: str) -> Client:
        """Problem if it is not offered, NoInstances if discovery does not hold it, DiscoveryUnavailable."""
        path = _path(text)
        if not self._is_offered(path):
            words = f"the endpoint {path} is not offered here (--endpoint)"
            raise Problem(HTTPStatus.NOT_FOUND, "NotFound", words)
        return self._clients.get(path) or await self._new_client(path)

    async def _new_client(self, path: str) -> Client:
        place = self._runtime.place
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._listed.wait()
                held = self._held()
                if path not in held:
                    raise NoInstances(endpoint=path, planes=self._runtime.planes, where=place, others=held)
                if len(self._clients) >= MOST_CLIENTS:
                    words = f"{MOST_CLIENTS} endpoints are followed already"
                    raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "Busy", words, AGAIN)
                client = await self._runtime.endpoint(path).client()
        except TimeoutError:
            why = f"{place} did not tell within {_PATIENCE:g} s which workers there are"
            raise DiscoveryUnavailable(why) from None
        return self._clients.setdefault(path, client)


def _path(text: str) -> str:
    try:
        return str(EndpointId.parse(text))
    except ValueError as error:
        raise Problem(HTTPStatus.NOT_FOUND, "NotFound", str(error)) from None
