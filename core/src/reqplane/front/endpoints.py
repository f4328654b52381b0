"""Which endpoints the front offers, and a client of each that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from http import HTTPStatus

from reqplane.client import Client
from reqplane.errors import NoInstances
from reqplane.front.incoming import Refused
from reqplane.model import EndpointId
from reqplane.runtime import DistributedRuntime


class Endpoints:
    """Clients are made when they are first needed, and only of endpoints that discovery holds: whoever makes
    up paths must not make us follow each of them."""

    def __init__(self, runtime: DistributedRuntime, patterns: Sequence[str]) -> None:
        self._runtime = runtime
        self._patterns = patterns
        self._clients: dict[str, Client] = {}

    def known(self) -> dict[str, int]:
        """How many workers can be reached of each endpoint that was called so far."""
        return {path: len(client.instances()) for path, client in sorted(self._clients.items())}

    async def client(self, text: str) -> Client:
        """Refused if it is not offered, NoInstances if discovery does not hold it, DiscoveryUnavailable."""
        path = _path(text)
        if not any(fnmatchcase(path, pattern) for pattern in self._patterns):
            raise Refused(
                HTTPStatus.NOT_FOUND, "NotFound", f"the endpoint {path} is not offered here (--endpoint)"
            )
        client = self._clients.get(path)
        if client is None:
            held = await self._runtime.endpoint_paths()
            if path not in held:
                raise NoInstances(
                    endpoint=path, planes=self._runtime.planes, where=self._runtime.place, others=held
                )
            client = self._clients[path] = await self._runtime.endpoint(path).client()
        return client


def _path(text: str) -> str:
    try:
        return str(EndpointId.parse(text))
    except ValueError as error:
        raise Refused(HTTPStatus.NOT_FOUND, "NotFound", str(error)) from None
