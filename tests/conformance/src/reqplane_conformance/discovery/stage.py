"""Backends, workers and watchers of one case.

Each backend is opened on a host of its own, as in a process of its own.  Every case has a namespace of its
own, so it disturbs nobody, and nobody disturbs it, where others use the same server.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from reqplane.errors import DiscoveryError, ReqplaneError, WireError
from reqplane.interfaces import Discovery, Registration
from reqplane.model import EndpointId, Instance
from reqplane.wire.records import encode_record, guide_key, make_record, parse_record

from reqplane_conformance.discovery.following import Follower
from reqplane_conformance.host import SuiteHost
from reqplane_conformance.stage import Stage
from reqplane_conformance.strain import Strain
from reqplane_conformance.verdict import Nonconformance, check

ONLY_OURS = "life.only_our_errors"
_FOLDER = "{folder}"


class Worker:
    """A number of one endpoint, and the records that are published under it.

    Whatever goes wrong, where nothing should, is a Nonconformance.  `registration` is the backend's own.
    """

    def __init__(self, registration: Registration, endpoint: EndpointId, incarnation: int) -> None:
        self.registration, self.endpoint, self.incarnation = registration, endpoint, incarnation

    @property
    def number(self) -> int:
        return self.registration.instance_id

    def record(self, address: object = "a:1", **more: Any) -> dict[str, Any]:
        """A record of this worker; what it holds for the plane "trial" is free."""
        transport = {"trial": address}
        return make_record(self.endpoint, self.number, self.incarnation, transport, "json", ["trial"], **more)

    def instance(self, address: object = "a:1", **more: Any) -> Instance:
        """What watchers are told when that record is published."""
        key = guide_key(self.endpoint, self.number)
        return parse_record(key, encode_record(self.record(address, **more)))

    async def publish(self, address: object = "a:1", **more: Any) -> None:
        with going_well("publish"):
            await self.registration.publish(self.record(address, **more))

    async def withdraw(self) -> None:
        with going_well("withdraw"):
            await self.registration.withdraw()

    async def renew(self) -> None:
        with going_well("renew"):
            await self.registration.renew()


class DiscoveryStage(Stage):
    """Opens backends, takes numbers, watches; `suite` has the hooks."""

    leftover_case = "life.nothing_left_over"

    def __init__(self, subject: type[Any], suite: Any, env: Mapping[str, str], strain: Strain) -> None:
        super().__init__(subject, suite, {**env, "DYN_WIRE_PROFILE": "guide"}, strain)  # numbers differ
        self.namespace = f"conformance-{secrets.token_hex(6)}"
        self._folder = ""
        self._followers: list[Follower] = []
        self._closed: list[Any] = []

    def path(self, name: str = "generate", component: str = "backend") -> EndpointId:
        """An endpoint of this case's namespace."""
        return EndpointId(self.namespace, component, name)

    def variables(self) -> dict[str, str]:
        """What all backends of this case are opened with."""
        if not self._folder and any(_FOLDER in value for value in self.env.values()):
            self._folder = tempfile.mkdtemp(prefix="reqplane-conformance-")
            self.env = {name: value.replace(_FOLDER, self._folder) for name, value in self.env.items()}
        return self.env

    async def open(self, env: Mapping[str, str] | None = None, **limits: Any) -> tuple[Any, SuiteHost]:
        self.variables()
        return await super().open(env, **limits)

    async def backend(self, **env: str) -> Discovery:
        """Open one more."""
        with going_well("open"):
            opened, _ = await self.open(env)
        return opened

    async def close(self, opened: Any, *, again: bool = False) -> None:
        """Close it, if it is not closed already; `again`: in any case."""
        is_again = opened in self._closed
        if is_again and not again:
            return
        self._closed.append(opened)
        try:
            await opened.aclose()
        except Exception as error:
            word = "again" if is_again else "once"
            raise Nonconformance(
                f"aclose raised {type(error).__name__}: {error}; it was called {word}",
                "aclose frees everything and raises nothing; it may be called again",
                "`aclose`, on a backend in whatever state",
                blame="life.aclose_twice" if is_again else ONLY_OURS,
            ) from error

    async def worker(
        self, backend: Discovery, endpoint: EndpointId | None = None, incarnation: int | None = None
    ) -> Worker:
        """Take a number; of `generate`, if nothing else is said."""
        endpoint = endpoint or self.path()
        incarnation = secrets.randbits(63) if incarnation is None else incarnation
        with going_well("reserve"):
            registration = await backend.reserve(endpoint, incarnation)
        check_number(registration)
        return Worker(registration, endpoint, incarnation)

    async def published(self, backend: Discovery, endpoint: EndpointId | None = None) -> Worker:
        """A worker whose record was handed over."""
        worker = await self.worker(backend, endpoint)
        await worker.publish()
        return worker

    async def watch(self, backend: Discovery, endpoint: EndpointId | None = None) -> Follower:
        """Follow one endpoint, or all of this case's; its first batch has come when this returns."""
        follower = self.begin_watch(backend, endpoint)
        await follower.until(lambda: follower.first is not None, "a first batch", blame=FIRST_BATCH)
        return follower

    def begin_watch(
        self, backend: Discovery, endpoint: EndpointId | None = None, *, again: bool = False
    ) -> Follower:
        """The same without waiting; `again`: when it ends or raises it is called again, as by the core."""
        follower = Follower(backend, endpoint, self.namespace, self.patience, again=again)
        self._followers.append(follower)
        return follower

    async def listing(self, backend: Discovery, endpoint: EndpointId | None = None) -> list[Instance]:
        """What a new watch tells first."""
        follower = await self.watch(backend, endpoint)
        await follower.aclose()
        return [change.instance for change in follower.first or () if change.up]

    async def outside(self, **env: str) -> Any:
        """A worker that can be killed and frozen: see `hooks.DiscoverySuite.outside_worker`."""
        self.variables()
        worker = await self.suite.outside_worker(self, **env)
        self.push(worker.aclose)
        return worker

    async def aclose(self) -> None:
        try:
            await asyncio.gather(*(follower.aclose() for follower in self._followers))
        finally:
            await self._close_all()

    async def _close_all(self) -> None:
        try:
            await super().aclose()
        finally:
            if self._folder:
                shutil.rmtree(self._folder, ignore_errors=True)


FIRST_BATCH = "watch.first_batch_even_if_empty"


def check_number(registration: Any) -> None:
    number = getattr(registration, "instance_id", None)
    check(
        isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**64,
        did=f"the registration's instance_id is {number!r}",
        wanted="a whole number, 0 or the lowest above it that is free",
        look="what `reserve` sets on the Registration that it returns",
        blame="numbers.lowest_free",
    )


@contextmanager
def going_well(what: str) -> Generator[None]:
    """Nothing may be raised here."""
    __tracebackhide__ = True
    try:
        yield
    except Nonconformance:
        raise
    except ReqplaneError as error:
        shown = f"{what} raised {type(error).__name__}: {error}"
        raise Nonconformance(shown, f"{what} succeeds here", f"`{what}`") from error
    except Exception as error:
        _foreign(what, error)


@contextmanager
def only_ours(what: str) -> Generator[None]:
    """Errors of ours may come out here, and nobody else's."""
    __tracebackhide__ = True
    try:
        yield
    except (Nonconformance, ReqplaneError):
        raise
    except Exception as error:
        _foreign(what, error)


@contextmanager
def going_perhaps(what: str) -> Generator[None]:
    """It may fail, by an error of ours."""
    __tracebackhide__ = True
    with suppress(DiscoveryError, WireError), only_ours(what):
        yield


def _foreign(what: str, error: Exception) -> NoReturn:
    raise Nonconformance(
        f"{what} raised {type(error).__name__}: {error}",
        "only DiscoveryUnavailable and LeaseLost come out of a backend, and WireError for a record that "
        "nobody could read",
        f"the place in `{what}` where your library's errors are turned into ours",
        blame=ONLY_OURS,
    ) from error
