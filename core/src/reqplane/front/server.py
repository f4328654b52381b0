"""Serving the front on a socket of ours, and leaving in order.

First no call is taken any more, which `/health` tells, and those that run may come to their end.  Only then
no connection is accepted any more, and the open ones are closed: nobody waits for an answer on them.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import Coroutine
from typing import Any

from reqplane.front.app import Front
from reqplane.front.connections import Connections

log = logging.getLogger("reqplane")

_MOST_CONNECTIONS = 10_000
_BACKLOG = 4096
_LAST_WORDS_SECONDS = 3.0
"""For calls that are cut off to tell their clients so."""
_BEFORE_CLOSE_SECONDS = 0.2
"""curl takes an answer for a whole one if the reset that cuts it off comes with the connection's end."""


async def run(front: Front, listener: socket.socket, leaving: asyncio.Event, drain_timeout: float) -> bool:
    """Serve until `leaving` is set and the calls under way have ended; False if they had to be cut off."""
    connections = Connections(front, _most_connections())
    accepting = await asyncio.start_server(connections.serve, sock=listener, backlog=_BACKLOG)
    try:
        await leaving.wait()
        front.draining = True
        quiet = await _within(front.quiet(), drain_timeout)
        if not quiet:
            front.cut_off()
            await _within(front.quiet(), _LAST_WORDS_SECONDS)
            await asyncio.sleep(_BEFORE_CLOSE_SECONDS)
        return quiet
    finally:
        accepting.close()
        await connections.close()


async def _within(work: Coroutine[Any, Any, None], seconds: float) -> bool:
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        return False
    return True


def _most_connections() -> int:
    """Half of the descriptors that this process may have; the others are for workers."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(_MOST_CONNECTIONS, soft // 2)
