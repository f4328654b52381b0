"""One connection from a frontend to a worker's process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence

import zmq
from reqplane.errors import CannotConnect, DeliveryUnknown, RequestError, refusal
from reqplane.interfaces import Timer, Timers
from reqplane.model import Body
from zmq.utils.monitor import parse_monitor_message

from reqplane_zmq.sockets import LoopSocket, send

_NEVER_AGAIN = 24 * 3600 * 1000
"""Milliseconds until libzmq connects again: long after we have closed the socket."""

_OPTIONS = {
    zmq.IPV6: 1,
    zmq.LINGER: 0,
    zmq.SNDHWM: 100,  # more requests than that wait with us, where they can be taken back
    zmq.MAXMSGSIZE: 16 * 1024,  # an answer is a code and a line of text
    zmq.CONNECT_TIMEOUT: 5000,
    zmq.HANDSHAKE_IVL: 5000,
    zmq.RECONNECT_IVL: _NEVER_AGAIN,
}
_LOST = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED


class Lane:
    """A DEALER socket that connects once.

    Left alone, libzmq keeps what it could not send, connects again for ever, and delivers it then.  Here a
    lost connection is the end of the lane, and what was not sent goes with the socket.  (RECONNECT_IVL=-1 and
    IMMEDIATE would do the same, but drop the acks that came just before the connection was lost.)  The end
    of a connection is told by the socket's monitor.

    A request that is given up, by a time-out or by its caller, retires the lane: no new ones go by it, and
    it is closed when nobody waits for an answer on it any more.  So what was given up is not kept.
    """

    def __init__(
        self,
        address: str,
        context: zmq.Context[zmq.Socket[bytes]],
        timers: Timers,
        timeout: float,
        retired: Callable[[Lane], None],
    ) -> None:
        self.address = address
        self._timers, self._timeout = timers, timeout
        self._retired: Callable[[Lane], None] | None = retired
        self._numbers = itertools.count()
        self._waiting: dict[int, Sequence[Body]] = {}  # not handed to libzmq yet
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._connected = False
        dealer = context.socket(zmq.DEALER)
        for option, value in _OPTIONS.items():
            dealer.set(option, value)
        monitor = dealer.get_monitor_socket(_LOST | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._monitor = LoopSocket(monitor, self._happened)
        self._dealer = LoopSocket(dealer, self._received, self._write)
        try:
            dealer.connect(f"tcp://{address}")
        except zmq.ZMQError:  # not what libzmq calls an address
            self.close("")
            raise

    def send(self, parts: Sequence[Body], deadline: float) -> asyncio.Future[None]:
        """Send a request; the Future is done at its ack."""
        loop, number = asyncio.get_running_loop(), next(self._numbers)
        self._waiting[number], self._answers[number] = parts, (answer := loop.create_future())
        end = min(deadline, loop.time() + self._timeout)
        timer = self._timers.at(end, lambda: self._time_out(number, end == deadline))
        answer.add_done_callback(lambda _: self._over(number, timer))
        self._dealer.look()
        return answer

    def close(self, why: str) -> None:
        """Close the connection; whoever still waits for an answer learns why."""
        self._retire()
        if self._dealer.socket.closed:
            return
        self._dealer.socket.disable_monitor()
        self._monitor.close()
        self._dealer.close()
        for number in self._answers:
            unsent = number in self._waiting
            self._fail(number, CannotConnect(why) if unsent else DeliveryUnknown("connection_lost", why))
        self._waiting.clear()

    def _write(self) -> bool:
        """Write one request, if there is one."""
        if not (self._connected and self._waiting):
            return False
        number = next(iter(self._waiting))
        parts = self._waiting.pop(number)
        if not self._answers[number].done():
            send(self._dealer.socket, [number.to_bytes(8), *parts])
        return True

    def _received(self, parts: list[zmq.Frame]) -> None:
        match [part.bytes for part in parts]:
            case [mark]:  # a worker that drains wants to know that its acks are here
                send(self._dealer.socket, [mark])
            case [mark, b"bye"]:  # and, when it leaves, that nothing new goes by this lane
                self._retire()
                send(self._dealer.socket, [mark])
            case [number, code, problem]:
                self._answered(int.from_bytes(number), code.decode(errors="replace"), problem)
            case _:
                self.close("what came is no answer")

    def _answered(self, number: int, code: str, problem: bytes) -> None:
        if number in self._waiting or number not in self._answers:
            return  # it was given up
        if code:
            self._fail(number, refusal(code, problem.decode(errors="replace")))
        elif not self._answers[number].done():
            self._answers[number].set_result(None)
        del self._answers[number]

    def _happened(self, parts: list[zmq.Frame]) -> None:
        event = parse_monitor_message([part.bytes for part in parts])["event"]
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._connected = True
            self._dealer.look()
        else:
            why = "the connection was lost" if self._connected else "no connection could be made"
            self._connected = False  # what waits is not written any more
            while self._dealer.look():  # acks that came before
                pass
            self.close(why)

    def _time_out(self, number: int, last: bool) -> None:
        """Its deadline has passed (`last`), or our own time: then there may be time for another worker."""
        why = "no answer in time"
        unsent = self._waiting.pop(number, None) is not None
        self._fail(number, CannotConnect(why) if unsent and not last else DeliveryUnknown("timed_out", why))

    def _fail(self, number: int, error: RequestError) -> None:
        error.locate(transport="zmq", address=self.address)
        answer = self._answers.get(number)
        if answer is not None and not answer.done():
            answer.set_exception(error)

    def _over(self, number: int, timer: Timer) -> None:
        """It has its answer, or was given up."""
        timer.cancel()
        self._waiting.pop(number, None)
        if self._answers.pop(number, None) is not None:
            self._retire()
        if self._retired is None and not self._answers:
            self.close("")

    def _retire(self) -> None:
        retired, self._retired = self._retired, None
        if retired is not None:
            retired(self)
