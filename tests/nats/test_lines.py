"""Lines that are slow, late or silent."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from reqplane.errors import CannotConnect
from reqplane.model import NEVER, EndpointId, Served
from servers import Nats

from .conftest import frame, opened, target_of, until
from .proxy import Line


async def test_listening_while_the_connection_is_being_made(nats: Nats, stack: AsyncExitStack) -> None:
    """One more comes, and one goes, before the server has confirmed those that there were."""
    line = Line(nats.port)
    url = await line.start()
    stack.push_async_callback(line.close)
    plane = await stack.enter_async_context(opened({"NATS_SERVER": url}))
    frontend = await stack.enter_async_context(opened({"NATS_SERVER": nats.url}))
    got: list[str] = []

    async def listen(name: str) -> str:
        served = Served(EndpointId(name, "while", "connecting"), 7, 0, "", alone=False)
        listeners[name] = await plane.listen(served, lambda delivery: got.append(name))
        return listeners[name].record(0)["nats_tcp"]

    listeners = {}
    leaves = await listen("leaves")
    link = plane._link
    line_was = link._incoming
    assert link.wire is not None
    line.holds_at = b"SUB "
    link.wire.abort()
    await until(lambda: link._incoming is not line_was and not line.back.is_set())
    line.holds_at = b""
    assert link.wire is None  # logged in, and the answer to what it subscribes is held back
    comes = await listen("comes")
    await listeners["leaves"].close()
    assert link.wire is None
    line.back.set()
    await until(lambda: link.wire is not None)
    await frontend.send(target_of(comes, frontend), frame(), {}, NEVER)
    assert got == ["comes"]
    with pytest.raises(CannotConnect, match="no responders"):
        await frontend.send(target_of(leaves, frontend), frame(), {}, NEVER)


@pytest.mark.slow
async def test_a_slow_line_is_no_dead_one(nats: Nats, stack: AsyncExitStack) -> None:
    """The pings wait behind megabytes, in both directions."""
    line = Line(nats.port, rate=1_000_000)
    url = await line.start()
    stack.push_async_callback(line.close)
    env = {"NATS_SERVER": url, "DYN_NATS_REQUEST_TIMEOUT_SECS": "60"}
    plane = await stack.enter_async_context(opened(env))
    frontend = await stack.enter_async_context(opened(env))
    got: list[int] = []
    served = Served(EndpointId("slow", "lines", "here"), 7, 0, "")
    listener = await plane.listen(served, lambda delivery: got.append(len(delivery.frame)))
    target = target_of(listener.record(0)["nats_tcp"], frontend)
    large = frame(b"x" * 1_000_000)
    await asyncio.gather(*(frontend.send(target, large, {}, NEVER) for _ in range(12)))
    assert len(got) == 12
    assert line.connections == 2
