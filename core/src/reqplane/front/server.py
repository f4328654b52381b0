"""hypercorn on a socket of ours: HTTP/1.1 and HTTP/2 without encryption on one port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Any

from hypercorn.asyncio import serve  # pyright: ignore[reportUnknownVariableType]
from hypercorn.config import Config

from reqplane.front.app import Front

log = logging.getLogger("reqplane")

_CLOSE_LIMIT = 5.0
"""Seconds for hypercorn to close idle connections."""


def _config(listener: socket.socket) -> Config:
    """Its default of 1000 requests a connection drops those in flight; its queue of 10 messages lets one
    slow reader block a whole connection."""
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.keep_alive_max_requests = 10**9
    config.max_app_queue_size = 1000
    config.include_server_header = False
    config.graceful_timeout = 1.0
    config.errorlog = log.getChild("hypercorn")
    config.errorlog.setLevel(logging.WARNING)  # it would greet, beside us
    return config


async def run(front: Front, listener: socket.socket, leaving: asyncio.Event, drain_timeout: float) -> bool:
    """Serve until `leaving` is set and the calls under way have ended; False if they had to be cut off."""
    closing = asyncio.Event()
    serving: asyncio.Task[Any] = asyncio.ensure_future(
        serve(front, _config(listener), shutdown_trigger=closing.wait)  # type: ignore[arg-type]
    )
    left = asyncio.ensure_future(leaving.wait())
    try:
        await asyncio.wait([serving, left], return_when=asyncio.FIRST_COMPLETED)
        front.draining = True
        quiet = await _within(front.quiet(), drain_timeout)
        closing.set()
        await asyncio.wait([serving], timeout=_CLOSE_LIMIT)
        return quiet
    finally:
        left.cancel()
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def _within(work: Any, seconds: float) -> bool:
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        return False
    return True
