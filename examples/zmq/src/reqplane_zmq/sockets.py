"""A ZeroMQ socket on the event loop, and the end of a context without blocking it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import cast

import zmq

_TURN = 100
"""Messages in one turn of the event loop; then others have theirs."""


class LoopSocket:
    """Hands each message that comes to `received`, and asks `write` for one whenever there is room.

    A ZeroMQ socket's descriptor tells only that something has changed, and any call on the socket may use
    that news up.  So all calls are made in `look`, which asks what is possible before each.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        received: Callable[[list[zmq.Frame]], None],
        write: Callable[[], bool] = lambda: False,
    ) -> None:
        self.socket = socket
        self._received, self._write = received, write
        self._loop = asyncio.get_running_loop()
        self._descriptor = cast(int, socket.get(zmq.FD))
        self._loop.add_reader(self._descriptor, self.look)
        self._loop.call_soon(self.look)  # there is no news of a first message for who has never asked

    def look(self) -> bool:
        """Receive and write what is possible now; True: there may be more, for which it looks again."""
        for _ in range(_TURN):
            events = 0 if self.socket.closed else cast(int, self.socket.get(zmq.EVENTS))
            if events & zmq.POLLIN:
                self._received(self.socket.recv_multipart(zmq.NOBLOCK, copy=False))
            elif not (events & zmq.POLLOUT and self._write()):
                return False
        self._loop.call_soon(self.look)
        return True

    def close(self, linger: int = 0) -> None:
        """Close the socket; what it has not sent within `linger` milliseconds is dropped."""
        if not self.socket.closed:
            self._loop.remove_reader(self._descriptor)
            self.socket.close(linger)


def send(socket: zmq.Socket[bytes], parts: Sequence[bytes | bytearray | memoryview]) -> None:
    """Send a message where there is room for one.

    Each part is copied once, into libzmq's memory: what pyzmq offers instead (`copy=False`) starts a thread
    that outlives every transport.
    """
    socket.send_multipart(parts, zmq.NOBLOCK, copy=True)


async def terminate(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """End a context whose sockets are closed: libzmq's threads are gone then, and so are its connections.

    That blocks until what lingers is sent, so a thread waits for it, which ends with it.
    """
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def tell() -> None:
        if not ended.done():  # cancelled, that is
            ended.set_result(None)

    def wait() -> None:
        context.term()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waited to the end
            loop.call_soon_threadsafe(tell)

    thread = threading.Thread(target=wait, name="zmq term", daemon=True)
    thread.start()
    await ended
    thread.join()
