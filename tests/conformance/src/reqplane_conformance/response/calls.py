"""Expecting an answer, and calling home: addresses, subjects, and what comes from strangers."""

from __future__ import annotations

import asyncio
import itertools
import socket
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from reqplane.errors import CannotConnect
from reqplane.model import ConnectionInfo, Control, End, Prologue
from reqplane.settings import is_wildcard

from reqplane_conformance.case import case
from reqplane_conformance.response.hooks import ResponseSuite
from reqplane_conformance.response.parts import check_parts
from reqplane_conformance.response.stage import Process, ResponseStage, info_from
from reqplane_conformance.verdict import check, expected, fail

_BITS = 100
"""Random bits that a subject has at least; a uuid of version 4 has 122."""
_CONNECT = 10.0
"""Seconds that a call home may take to fail."""
_BOUNDED = "`call_home` needs a time-out of its own"
_NO_ADDRESSES = ["", "x", ":", "[::1", "127.0.0.1:0", "127.0.0.1:99999", "\x00:1", "a:b:c"]
_JUNK = {
    "noise": bytes(range(256)) * 64,
    "HTTP": b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "a length beyond all limits": b"\xff" * 24,
    "zeros": b"\x00" * 4096,
    "a line": b"hello\n",
    "nothing": b"",
}


class CallCases(ResponseSuite, suite=True):
    """Expecting an answer, and calling home."""

    group = "calls"

    @case(priority=1)
    async def test_opened(self, stage: ResponseStage) -> None:
        """`opened` is pending until the worker has called home, and done then, before anything is written."""
        frontend, worker = await stage.pair()
        pending = frontend.transport.expect("conformance")
        check(not pending.opened.done(), did="`opened` is done at once", wanted="pending, nobody has called")
        call = await stage.home(worker, pending)
        look = "what the frontend does when a worker calls home"
        await stage.soon(asyncio.wait([pending.opened]), "`opened` done after the call", look)
        check(
            not pending.opened.cancelled() and pending.opened.exception() is None,
            did=f"`opened` is {pending.opened!r:.80}",
            wanted="done, with None",
            look=look,
        )
        await call.answer()
        check_parts(await call.rest(), [Prologue(), End()])

    @case()
    async def test_info(self, stage: ResponseStage) -> None:
        """What a request's head tells the worker survives it, and names the request and the address."""
        frontend = await stage.frontend()
        infos = [frontend.transport.expect(f"request {number}").info for number in range(2)]
        for number, info in enumerate(infos):
            arrived = info_from(info)
            check(
                arrived == info,
                did=f"{info} arrived as {arrived}",
                wanted="the same: an address and a subject of printable ASCII",
                look="the ConnectionInfo that `expect` makes",
            )
            check(
                (info.context, info.address) == (f"request {number}", frontend.transport.advertised),
                did=f"expect('request {number}') gave {info}",
                wanted=f"context='request {number}' and address={frontend.transport.advertised!r}",
                look="the ConnectionInfo that `expect` makes",
            )

    @case()
    async def test_subjects_are_secrets(self, stage: ResponseStage) -> None:
        """Each subject is a uuid of its own that nobody can guess."""
        frontend = await stage.frontend()
        subjects = [frontend.transport.expect("conformance").info.subject for _ in range(500)]
        look = "what `expect` draws: uuid.uuid4(), or os.urandom; who guesses a subject answers the request"
        try:
            numbers = [uuid.UUID(subject).int for subject in subjects]
        except ValueError:
            fail(f"a subject is {subjects[0]!r}", "a uuid", look)
        check(
            len(set(numbers)) == len(numbers),
            did="a subject was drawn twice",
            wanted="each only once",
            look=look,
        )
        first, second = _changing(numbers), _changing([one ^ two for one, two in itertools.pairwise(numbers)])
        check(
            min(first, second) >= _BITS,
            did=f"of 500 subjects, such as {subjects[0]}, only {min(first, second)} bits vary",
            wanted=f"{_BITS} random bits at least",
            look=look,
        )

    @case(within=30.0)
    async def test_nobody_there(self, stage: ResponseStage) -> None:
        """Calling home where nobody listens any more is CannotConnect with the address, soon."""
        frontend, worker = await stage.pair()
        info = info_from(frontend.transport.expect("conformance").info)
        await frontend.transport.aclose()
        look = "`call_home`: the one place where errors of connecting are turned into CannotConnect"
        with expected(CannotConnect, when="where nobody listens", what="call_home", look=look) as caught:
            await self._calling(stage, worker, info)
        check(
            isinstance(caught.error, CannotConnect) and caught.error.address == info.address,
            did=f"CannotConnect has the address {vars(caught.error).get('address')!r}",
            wanted=f"{info.address!r}, or whoever reads the message can't tell which frontend is meant",
            look=look,
        )

    @case(within=60.0)
    @pytest.mark.parametrize("address", _NO_ADDRESSES)
    async def test_nonsense_for_an_address(self, stage: ResponseStage, address: str) -> None:
        """An address that is none, which anybody may write into a request, is CannotConnect."""
        frontend, worker = await stage.pair()
        good = info_from(frontend.transport.expect("conformance").info)
        said = worker.transport.objection(good)
        look = "`objection`: what it refuses, and whether it can be read"
        check(said is None, did=f"objection to {good.address} gave {said!r}", wanted="None", look=look)
        info = replace(good, address=address)
        said = worker.transport.objection(info)
        check(said is None or said, did=f"objection gave {said!r}", wanted="None, or why not", look=look)
        with expected(CannotConnect, when=f"for the address {address!r}", what="call_home"):
            await self._calling(stage, worker, info)

    async def _calling(self, stage: ResponseStage, worker: Process, info: ConnectionInfo) -> None:
        calling = worker.transport.call_home(info, lambda control: None)
        await stage.soon(calling, f"call_home to {info.address!r} done", _BOUNDED, _CONNECT)

    @case()
    async def test_cancelled_call(self, stage: ResponseStage) -> None:
        """A call home that is cancelled leaves nothing, and spoils nobody else's."""
        frontend, worker = await stage.pair()
        pendings = [frontend.transport.expect("conformance") for _ in range(6)]
        calls = [asyncio.create_task(stage.home(worker, pending)) for pending in pendings]
        await asyncio.sleep(0)
        calls[0].cancel()
        calls[3].cancel()
        await asyncio.wait(calls)
        for number in (1, 2, 4, 5):
            call = calls[number].result()
            await call.answer(b"mine")
            look = "`call_home`: one caller makes a connection for several, and then is cancelled"
            check_parts(await call.rest(), [Prologue(), b"mine", End()], look)
        await (await stage.call(frontend, worker)).answer()

    @case(within=40.0)
    async def test_silent_listener(self, stage: ResponseStage) -> None:
        """A call home to somebody who accepts connections and says nothing does not wait for ever."""
        frontend, worker = await stage.pair()
        info = info_from(frontend.transport.expect("conformance").info)
        host, _ = _tcp_address(stage, info.address)
        told: list[Control] = []
        with socket.create_server((host, 0)) as silent:
            elsewhere = replace(info, address=f"{host}:{silent.getsockname()[1]}")
            calling = worker.transport.call_home(elsewhere, told.append)
            try:
                home = await stage.soon(calling, "call_home to a silent listener done", _BOUNDED, _CONNECT)
            except CannotConnect:
                return
            home.abort()  # a stream with a connection of its own can't tell yet

    @case(within=40.0)
    @pytest.mark.parametrize("junk", list(_JUNK))
    @pytest.mark.parametrize("closes", [True, False])
    async def test_junk(self, stage: ResponseStage, junk: str, closes: bool) -> None:
        """A stranger who sends junk to the listener, and closes or stays, harms nobody."""
        frontend, worker = await stage.pair()
        before = await stage.call(frontend, worker)
        host, port = _tcp_address(stage, frontend.transport.advertised)
        async with _stranger(host, port) as writer:
            writer.write(_JUNK[junk])
            if closes:
                writer.close()
            after = await stage.call(frontend, worker)
            for call in (before, after):
                await call.answer(b"unharmed")
                look = "what the listener does with a connection whose first bytes are not its own"
                check_parts(await call.rest(), [Prologue(), b"unharmed", End()], look)

    @case()
    async def test_listen_twice(self, stage: ResponseStage) -> None:
        """`listen` may be called again, and at once from several places: there is one listener."""
        frontend, worker = await stage.process(), await stage.process()
        count = stage.sockets()
        await asyncio.gather(*(frontend.transport.listen() for _ in range(3)))
        address = frontend.transport.advertised
        await frontend.transport.listen()
        check(
            frontend.transport.advertised == address and stage.sockets() - count <= 1,
            did=f"it opened {stage.sockets() - count} sockets, and is at {frontend.transport.advertised} now",
            wanted=f"one listener, at {address}",
            look="`listen`, which several clients call at the same time",
        )
        await (await stage.call(frontend, worker)).answer()

    @case()
    async def test_advertised(self, stage: ResponseStage) -> None:
        """The address that others are told is host:port, never a wildcard, wherever it listens."""
        hosts = [name for name in getattr(stage.subject, "loopback", {}) if name.endswith("HOST")]
        for env in ({}, dict.fromkeys(hosts, "0.0.0.0")):
            frontend = await stage.frontend(env)
            address = frontend.transport.advertised
            host, colon, port = address.rpartition(":")
            check(
                colon and host and port.isdigit() and int(port) and not is_wildcard(host.strip("[]")),
                did=f"after listen, `advertised` is {address!r}",
                wanted="host:port of an address that others can reach: not 0.0.0.0, and not port 0",
                look="`listen`, and Host.advertise, which makes an address of a wildcard",
            )


def _changing(numbers: list[int]) -> int:
    """How many bits are not the same in all of them."""
    changing = 0
    for number in numbers:
        changing |= number ^ numbers[0]
    return changing.bit_count()


def _tcp_address(stage: ResponseStage, address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        stage.does_not_apply(f"its address, {address}, is not one of TCP")
    return host, int(port)


@asynccontextmanager
async def _stranger(host: str, port: int) -> AsyncGenerator[asyncio.StreamWriter]:
    _, writer = await asyncio.open_connection(host, port)
    try:
        yield writer
    finally:
        writer.transport.abort()
