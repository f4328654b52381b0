"""What is the zmq plane's own: that libzmq keeps nothing, and what strangers may say."""

import asyncio
import json
import logging
import socket
from types import SimpleNamespace

import pytest
import reqplane
import zmq
import zmq.asyncio
from reqplane.errors import CannotConnect, DeliveryUnknown
from reqplane.model import EndpointId, Limits, Served
from reqplane_zmq.lane import Lane
from reqplane_zmq.sockets import terminate
from reqplane_zmq.worker import Server, ZmqSettings

ENDPOINT = "default.test.generate"


class Timers:
    def at(self, when, fire):
        return asyncio.get_running_loop().call_at(when, fire)


class Frontend:
    """Lanes to one address, as the transport has them."""

    def __init__(self, address):
        self.address, self.context, self.lanes = address, zmq.Context(), []

    async def send(self, *parts, within=0.2):
        lane = Lane(self.address, self.context, Timers(), 5.0, lambda lane: None)
        self.lanes.append(lane)
        await lane.send(parts, asyncio.get_running_loop().time() + within)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for lane in self.lanes:
            lane.close("closed")
        await terminate(self.context)


async def server(got, **settings):
    host = SimpleNamespace(
        limits=Limits(), log=logging.getLogger(), advertise=lambda bound, toward="": "127.0.0.1"
    )
    made = Server(host, ZmqSettings(**{"host": "127.0.0.1", **settings}))
    served = Served(EndpointId.parse(ENDPOINT), 1, 0, "")
    return made, await made.listen(served, lambda delivery: got.append(bytes(delivery.frame)))


def run(work):
    asyncio.run(asyncio.wait_for(work, 10))


def test_what_was_given_up_is_not_delivered_when_somebody_is_there():
    async def work():
        with socket.socket() as nobody:  # connections are made, and nothing is said on them
            nobody.bind(("127.0.0.1", 0))
            nobody.listen()
            port = nobody.getsockname()[1]
            async with Frontend(f"127.0.0.1:{port}") as frontend:
                with pytest.raises(DeliveryUnknown):
                    await frontend.send(ENDPOINT.encode(), b"{}", b"given", b"up")
                nobody.close()
                made, _ = await server(got := [], port=port)
                await frontend.send(ENDPOINT.encode(), b"{}", b"another", b"", within=2)
                await asyncio.sleep(0.3)
                assert got == [b"another"]
                await made.close()

    run(work())


def test_nobody_there_is_told_at_once():
    async def work():
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            async with Frontend(f"127.0.0.1:{bound.getsockname()[1]}") as frontend:
                with pytest.raises(CannotConnect):
                    await asyncio.wait_for(frontend.send(b"", within=5), 1)

    run(work())


@pytest.mark.parametrize("headers", [b"no json", b"[]", b'{"a": 1}', b"\xff"])
def test_headers_that_are_none_are_refused(headers):
    async def work():
        made, _ = await server(got := [])
        async with Frontend(made.address) as frontend:
            with pytest.raises(reqplane.errors.InvalidFrame):
                await frontend.send(ENDPOINT.encode(), headers, b"head", b"body", within=2)
        assert not got
        await made.close()

    run(work())


@pytest.mark.parametrize("message", [[b""], [b"", b""], [b"12345678"] * 9, [b"123", b"", b"{}", b"", b""]])
def test_messages_that_are_none_are_passed_over(message):
    async def work():
        made, _ = await server(got := [])
        with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as stranger:
            stranger.linger = 0
            stranger.connect(f"tcp://{made.address}")
            await stranger.send_multipart(message)
            await stranger.send_multipart([b"12345678", ENDPOINT.encode(), b"{}", b"he", b"ad"])
            assert await stranger.recv_multipart() == [b"12345678", b"", b""]
        assert got == [b"head"]
        await made.close()

    run(work())


@pytest.mark.parametrize("answer", [[b"", b""], [b"x" * 100_000], [b"1", b"2", b"3", b"4"]])
def test_an_answer_that_is_none_ends_the_wait(answer):
    async def work():
        with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as stranger:
            stranger.linger = 0
            port = stranger.bind_to_random_port("tcp://127.0.0.1")
            async with Frontend(f"127.0.0.1:{port}") as frontend:
                sending = asyncio.ensure_future(frontend.send(b"", within=5))
                who, *_ = await stranger.recv_multipart()
                await stranger.send_multipart([who, *answer])
                with pytest.raises(DeliveryUnknown, match="connection_lost"):
                    await sending

    run(work())


def test_the_address_that_others_are_told():
    async def work():
        made, listener = await server([], advertise_host="worker.example")
        address = listener.record(0)["zmq"]["address"]
        assert address.startswith("worker.example:")
        assert not address.endswith(":0")
        json.dumps(listener.record(0))
        await made.close()

    run(work())
