"""What carries frames between the memory transports of one event loop, and how it is disturbed."""

from __future__ import annotations

import asyncio
import copy
import itertools
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reqplane.errors import CannotConnect, DeliveryUnknown, RequestError, SettingsError
from reqplane.model import Headers, Peer


class Parcel(asyncio.Future[None]):
    """A frame on its way, and the future of its fate."""

    def __init__(self, address: str, endpoint: str, frame: bytes, headers: Headers, peer: Peer) -> None:
        super().__init__()
        self.address, self.endpoint = address, endpoint
        self.frame, self.headers, self.peer = frame, headers, peer
        self.instead: RequestError | None = None
        """What the sender gets in place of the ack."""

    def settle(self, error: RequestError | None = None) -> None:
        """Its end; whoever gave it up before does not hear of it."""
        error = error or self.instead
        if self.done():
            return
        if error is None:
            self.set_result(None)
        else:
            self.set_exception(error)

    def lost(self, why: str) -> None:
        """Nobody can say what became of it."""
        self.settle(DeliveryUnknown("connection_lost", why, transport="memory", address=self.address))

    def unreachable(self, why: str) -> None:
        """It was surely not accepted."""
        self.settle(CannotConnect(why, transport="memory", address=self.address))


class Place:
    """An address and who listens there: `hand_over` says what becomes of a frame, None = accepted."""

    def __init__(self, address: str, hand_over: Callable[[Parcel], RequestError | None]) -> None:
        self.address = address
        self.pause = 0.0
        self.frozen = False
        self._hand_over = hand_over
        self._waiting: deque[Parcel] = deque()
        self._busy: asyncio.TimerHandle | None = None
        self._gone = False

    def arrived(self, parcel: Parcel) -> None:
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()  # given up meanwhile: its frame is not to be kept until the thaw
        self._waiting.append(parcel)
        self.go_on()

    def go_on(self) -> None:
        """Hand over what waits, one after the other."""
        while self._waiting and not self.frozen and self._busy is None:
            if self.pause:
                self._busy = asyncio.get_running_loop().call_later(self.pause, self._paused)
            else:
                self._hand_over_one()

    def _paused(self) -> None:
        self._busy = None
        if self._waiting and not self.frozen:
            self._hand_over_one()
        self.go_on()

    def _hand_over_one(self) -> None:
        parcel = self._waiting.popleft()
        if parcel.done():
            return  # nobody wants the ack of one that was given up while it waited here
        error = self._hand_over(parcel)
        if self._gone:
            parcel.lost("the process that took it is gone")
        else:
            _later(network().delay, parcel.settle, error)

    def close(self, end: Callable[[Parcel], None]) -> None:
        """Nothing is handed over any more; `end` tells it to the senders of what waits."""
        self._gone = True
        if self._busy is not None:
            self._busy.cancel()
            self._busy = None
        while self._waiting:
            end(self._waiting.popleft())


@dataclass(slots=True)
class _Failure:
    """What the next sends meet."""

    error: RequestError
    delivered: bool
    times: int


class Network:
    """The memory transports of one event loop.

    It must not hold the loop, not even by way of a future: its entry in `_networks` would live for ever.  So
    it knows its places weakly; they belong to the transports.
    """

    def __init__(self) -> None:
        self.delay = 0.0
        """Seconds that a frame takes, and its ack."""
        self._places: weakref.WeakValueDictionary[int, Place] = weakref.WeakValueDictionary()
        self._numbers = itertools.count(1)
        self._failures: deque[_Failure] = deque()

    # ── disturbing it ──

    @property
    def addresses(self) -> list[str]:
        """Where workers listen, in the order in which they began."""
        return [place.address for place in self._places.values()]

    def fail_next(self, error: RequestError, *, delivered: bool = False, times: int = 1) -> None:
        """Let the next send, or so many, fail with this error.

        `delivered`: a worker gets the frame all the same, only its ack is replaced by the error.
        """
        self._failures.append(_Failure(error, delivered, times))

    def vanish(self, address: str) -> None:
        """Let the process at this address be gone without a word; what it has accepted goes on."""
        place = self._places.pop(_port_of(address), None)
        if place is not None:
            place.close(lambda parcel: parcel.lost("the process that listened there is gone"))

    def freeze(self, address: str) -> None:
        """Let the process at this address accept nothing, until `thaw`; what is sent there waits."""
        self._place(address).frozen = True

    def thaw(self, address: str) -> None:
        place = self._places.get(_port_of(address))
        if place is not None:  # it may have vanished
            place.frozen = False
            place.go_on()

    def slow_down(self, address: str, seconds: float) -> None:
        """Let the process at this address take so long over each frame, one after the other."""
        self._place(address).pause = seconds

    def _place(self, address: str) -> Place:
        place = self._places.get(_port_of(address))
        if place is None:
            raise LookupError(f"nobody listens at {address!r}; there are {', '.join(self.addresses)}")
        return place

    # ── what transports use ──

    def listen(self, port: int, hand_over: Callable[[Parcel], RequestError | None]) -> Place:
        """Open an address; port 0 = one that nobody has had yet."""
        if not port:
            port = next(number for number in self._numbers if number not in self._places)
        if port in self._places:
            why = "somebody listens at this port; choose another one, or MEMORY_PORT=0 for any free one"
            raise SettingsError([("MEMORY_PORT", str(port), why)])
        place = Place(f"memory:{port}", hand_over)
        self._places[port] = place
        return place

    def leave(self, place: Place) -> None:
        """Close an address; what waits there was not accepted."""
        port = _port_of(place.address)
        if self._places.get(port) is place:
            del self._places[port]
        place.close(lambda parcel: parcel.unreachable("the worker stopped listening"))

    def carry(self, parcel: Parcel) -> None:
        """Bring it to its address, in a later turn of the loop."""
        failure = self._next_failure()
        if failure is not None and failure.delivered:
            parcel.instead = copy.copy(failure.error)
        elif failure is not None:
            parcel.settle(copy.copy(failure.error))
            return
        _later(self.delay, self._arrived, parcel)

    def _arrived(self, parcel: Parcel) -> None:
        if parcel.done():
            return
        place = self._places.get(_port_of(parcel.address))
        if place is None:
            parcel.unreachable("nobody listens there")
        else:
            place.arrived(parcel)

    def _next_failure(self) -> _Failure | None:
        if not self._failures:
            return None
        failure = self._failures[0]
        failure.times -= 1
        if failure.times < 1:
            self._failures.popleft()
        return failure


def _later(delay: float, call: Callable[..., None], *arguments: Any) -> None:
    loop = asyncio.get_running_loop()
    if delay:
        loop.call_later(delay, call, *arguments)
    else:
        loop.call_soon(call, *arguments)


def _port_of(address: str) -> int:
    name, _, port = address.rpartition(":")
    if name != "memory" or not (port.isascii() and port.isdigit()):
        raise LookupError(f"{address!r} is no address of the memory transport, such as memory:1")
    return int(port)


# The only state that transports share: they have nothing in common but the process and the loop.  Weakly, so
# that it goes with its loop, and one test's workers are not the next one's.
_networks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Network] = weakref.WeakKeyDictionary()


def network() -> Network:
    """That of the event loop which runs."""
    return _networks.setdefault(asyncio.get_running_loop(), Network())
