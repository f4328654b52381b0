"""What happens on the way: bytes in pieces, connections that are lost, and peers that are none."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from reqplane.errors import CannotConnect, DeliveryUnknown, NotDelivered
from reqplane.wire.frame import Frame

from reqplane_conformance.case import case
from reqplane_conformance.request.fates import WHOLE, Audit, fate, told
from reqplane_conformance.request.hooks import RequestSuite
from reqplane_conformance.request.places import Place
from reqplane_conformance.request.relay import Instead, Relay, place_of
from reqplane_conformance.request.stage import RequestStage, Worker
from reqplane_conformance.request.strangers import STRANGERS, Flood
from reqplane_conformance.request.waiting import closed, ends, until_it_works
from reqplane_conformance.usage import resident_bytes
from reqplane_conformance.verdict import check, expected

_MIB = 1 << 20


@asynccontextmanager
async def _mute(place: Place) -> AsyncGenerator[None]:
    """While the block runs, somebody listens there who takes every connection and says nothing."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), place.host, place.port)
    try:
        yield
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


_LISTENER = "the task or callback of one connection: whatever happens in it ends this connection, and no more"
_JUNK = {
    "nothing": b"",
    "ones": b"\xff" * 65536,
    "random": random.Random(1).randbytes(65536),
    "http": b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "endless line": b"a" * _MIB,
}


class NetworkCases(RequestSuite, suite=True):
    """What a network, or somebody else on it, does to a transport."""

    group = "failure"

    @case()
    @pytest.mark.parametrize("size", [100, 100_000])
    async def test_bytes_in_pieces(self, stage: RequestStage, size: int) -> None:
        """A frame and its ack arrive, in whatever pieces the network tells their bytes."""
        frontend, worker = await stage.frontend(), await stage.worker()
        relay, audit = await Relay.start(stage, worker), Audit()
        chance = random.Random(size)
        relay.pieces = lambda data: _pieces(data, 1 if size < 1000 else 3000, chance)
        for _ in range(3):
            await audit.send(frontend, relay, stage.frame(chance.randbytes(frontend.fitting(size))))
        failed = next(filter(None, audit.errors), None)
        check(
            failed is None,
            did=f"when the bytes arrived in small pieces, send {told(failed)}",
            wanted="an ack: a read may give any part of what was written, and several writes at once",
            look="reads on either side that take what they get for a whole message",
        )
        await audit.settled(stage, worker)
        audit.check(worker)

    @case(within=30.0)
    async def test_not_delivered_stays_so(self, stage: RequestStage) -> None:
        """What send has told as not delivered never arrives, also when its address is served again."""
        env = stage.one_port()
        frontend, first = await stage.frontend(), await stage.worker(env=env)
        await frontend.deliver(first)
        place = await place_of(stage, first)
        if not env or not place.port:
            stage.does_not_apply("its `loopback` has no variable whose name ends with PORT")
        await first.listener.close()
        audit = Audit()
        for _ in range(3):
            await audit.send(frontend, first, stage.frame(), within=0.3)
        async with _mute(place):
            for _ in range(3):
                await audit.send(frontend, first, stage.frame(), within=0.3)
        second = await stage.worker(env=env)
        await until_it_works(stage, frontend, second)
        for frame, error in zip(audit.frames, audit.errors, strict=True):
            check(
                not isinstance(error, NotDelivered) or frame.join() not in second.frames,
                did=f"send {told(error)}, and the frame arrived later, when a worker listened there again",
                wanted="CannotConnect says that the frame will never arrive: another worker gets it then",
                look="what your library keeps while it has no connection, and sends as soon as it has one",
            )

    @case(priority=4)
    async def test_ack_lost(self, stage: RequestStage) -> None:
        """When the connection is lost before the ack, send says DeliveryUnknown and does not send again."""
        frontend, worker = await stage.frontend(), await stage.worker()
        relay, audit = await Relay.start(stage, worker), Audit()
        await audit.send(frontend, relay, stage.frame())
        relay.answers = False
        sending = asyncio.ensure_future(audit.send(frontend, relay, stage.frame(), within=3.0))
        await stage.until(lambda: len(worker.got) > 1 or sending.done(), "the second frame")
        relay.cut()
        relay.answers = True
        await sending
        if len(worker.got) > 1:
            check(
                isinstance(audit.errors[-1], DeliveryUnknown),
                did=f"the connection was lost before the ack, and send {told(audit.errors[-1])}",
                wanted="DeliveryUnknown: the request may be running, and was indeed accepted here",
                look="retries of your library, which must be off, and how `send` maps its errors",
            )
        await until_it_works(stage, frontend, relay)
        _check_known(worker, audit.frames, more=1)
        arrived = worker.frames.count(audit.frames[-1].join())
        check(
            arrived <= 1,
            did=f"accept was called {arrived} times with a frame whose ack was lost",
            wanted="once: a frame that may have arrived is never sent again by the transport",
            look="retries of your library, which must be off",
        )

    @case()
    async def test_connection_cut(self, stage: RequestStage) -> None:
        """When the connection is lost within a frame, send fails, and nothing of the frame is accepted."""
        frontend, worker = await stage.frontend(), await stage.worker()
        relay, audit = await Relay.start(stage, worker), Audit()
        size = frontend.fitting(300_000)
        for most in (0, 10, 1000, size // 2, size - 1000):
            relay.most = most
            await audit.send(frontend, relay, stage.frame(bytes(size)), within=1.5)
            relay.most = None
        await audit.settled(stage, worker)
        audit.check(worker)
        await until_it_works(stage, frontend, relay)

    @case(priority=4)
    @pytest.mark.parametrize("then", ["close", "stay"])
    async def test_half_a_frame(self, stage: RequestStage, then: str) -> None:
        """A connection that ends or falls silent within a frame leads to no accept, and holds nothing up."""
        frontend, worker = await stage.frontend(), await stage.worker()
        place, frame = await place_of(stage, worker), stage.frame(b"\x01" * 3000)
        said = await _conversation(stage, worker, frame)
        for most in sorted(
            {len(said) // 4, len(said) // 2, len(said) - 3100, len(said) - 1500, len(said) - 1}
        ):
            await _tell(stage, place, said[: max(most, 1)], stay=then == "stay")
        audit = Audit()
        await audit.send(frontend, worker, stage.frame())
        check(audit.acked, did=f"after that send {told(audit.errors[0])}", wanted="an ack", look=_LISTENER)
        _check_known(worker, [frame, *audit.frames])

    @case(priority=4)
    async def test_raw_junk(self, stage: RequestStage) -> None:
        """Bytes that are none of the transport's are never accepted, and the listener goes on."""
        frontend, worker = await stage.frontend(), await stage.worker()
        place, audit = await place_of(stage, worker), Audit()
        for name, junk in _JUNK.items():
            await _tell(stage, place, junk, stay=False)
            await audit.send(frontend, worker, stage.frame())
            check(
                audit.errors[-1] is None,
                did=f"after a connection with junk ({name}) send {told(audit.errors[-1])}",
                wanted="the listener goes on as if nothing had been",
                look=_LISTENER,
            )
        await audit.settled(stage, worker)
        audit.check(worker)

    @case()
    async def test_silent_connections(self, stage: RequestStage) -> None:
        """Connections on which nobody says anything hold up neither frames nor the listener's close."""
        frontend, worker = await stage.frontend(), await stage.worker()
        place = await place_of(stage, worker)
        for _ in range(30):
            await _tell(stage, place, b"", stay=True)
        await ends(stage, frontend.send(worker), 3.0, "others hold nothing up")
        look = "`Server.wait_closed`, which waits for every connection since Python 3.12"
        await closed(stage, worker.listener.close(), look=look)
        await closed(stage, worker.transport.aclose(), look=look)

    @case(within=30.0)
    async def test_announces_too_much(self, stage: RequestStage) -> None:
        """A peer that announces more bytes than max_frame_bytes, and sends them, fills no memory."""
        worker = await stage.outside()
        place, frame = await place_of(stage, worker), stage.frame(b"\x01" * 12_345)
        said = await _conversation(stage, worker, frame)
        grown = list(_with_larger_numbers(said, len(frame)))
        if not grown:
            stage.does_not_apply("what its frontends say does not announce how long a frame is")
        before = resident_bytes(worker.pid)
        for lie in grown:
            await _tell(stage, place, lie, stay=True, zeros=256 * _MIB)
        more = resident_bytes(worker.pid) - before
        check(
            more < 150 * _MIB,
            did=f"a peer announced many GiB and sent 256 MiB of it: the worker grew by {more >> 20} MiB",
            wanted="the size is checked against max_frame_bytes before anything is kept",
            look="the listener's code that reads how long a frame is",
        )
        await until_it_works(stage, await stage.frontend(), worker)

    @case(priority=3, within=30.0)
    @pytest.mark.parametrize("kind", ["nobody", *STRANGERS])
    async def test_only_our_errors(self, stage: RequestStage, kind: str) -> None:
        """Whoever listens at the address, send fails by an error of ours and takes nothing for an ack."""
        frontend, worker = await stage.frontend(), await stage.worker()
        if kind == "nobody":
            await worker.listener.close()
            peer: Any = worker
        else:
            peer = await Instead.start(stage, worker, STRANGERS[kind])
        look = "how `send` tells an ack from other bytes, and the one place where foreign errors become ours"
        with expected(DeliveryUnknown, CannotConnect, when=f"from a peer that is none ({kind})", look=look):
            await ends(stage, frontend.send(peer, within=1.5), 3.0)

    @case()
    async def test_endless_answer(self, stage: RequestStage) -> None:
        """A peer that answers without end fills no memory."""
        frontend, worker, flood = await stage.frontend(), await stage.worker(), Flood()
        peer = await Instead.start(stage, worker, flood)
        error = await fate(ends(stage, frontend.send(peer, within=1.5), 3.0))
        check(
            flood.grown < flood.enough,
            did=f"while a peer answered without end the process grew by {flood.grown >> 20} MiB",
            wanted="an answer is read up to a bound: a few hundred KiB are a lot for an ack or a refusal",
            look="reads that go on until the connection ends",
        )
        check(error, did="send returned", wanted="an error: that was no ack")


def _pieces(data: bytes, most: int, chance: random.Random) -> Iterator[bytes]:
    while data:
        size = chance.randint(1, most)
        yield data[:size]
        data = data[size:]


async def _conversation(stage: RequestStage, worker: Any, frame: Frame) -> bytes:
    """What a frontend says to deliver a frame as its first."""
    relay = await Relay.start(stage, worker)
    await (await stage.frontend()).deliver(relay, frame)
    return bytes(max(relay.heard, key=len))


async def _tell(stage: RequestStage, place: Place, data: bytes, *, stay: bool, zeros: int = 0) -> None:
    """Say something to a listener, and so many zeros; then end the connection or keep it open.

    The listener may end it before.
    """
    _, writer = await place.connect()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(2.0 * stage.patience):
            for piece in (data, *itertools.repeat(bytes(_MIB), zeros // _MIB)):
                writer.write(piece)
                await writer.drain()
    if stay:
        stage.push(lambda: _abort(writer))
        return
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(2.0 * stage.patience):
            await writer.wait_closed()
    await _abort(writer)


async def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def _with_larger_numbers(said: bytes, number: int) -> Iterator[bytes]:
    """The same bytes with each form of this number in turn replaced by a huge one."""
    text = str(number).encode()
    forms = [(text, b"9" * len(text)), (text, b"9" * 12), (b"%x\r\n" % number, b"fffffff\r\n")]
    for width in (8, 4, 3):
        for order in ("big", "little"):
            huge = (1 << (8 * width - 1)) - 1
            forms.append((number.to_bytes(width, order), huge.to_bytes(width, order)))
    for form, huge in forms:
        if form in said:
            yield said.replace(form, huge, 1)


def _check_known(worker: Worker, frames: list[Frame], more: int = 0) -> None:
    """Nothing was accepted but these frames, and some more of the suite's."""
    known = {frame.join() for frame in frames}
    strange = [frame for frame in worker.frames if frame not in known]
    size = len(strange[-1]) if strange else 0
    check(
        len(strange) <= more,
        did=f"accept was called with {size} bytes that nobody has sent as a frame",
        wanted="only whole frames are handed to accept",
        look="what the listener does when a connection ends within a frame",
        blame=WHOLE,
    )
