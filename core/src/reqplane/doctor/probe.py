"""Asks a worker for nothing: a request that travels the whole way, but never reaches the handler.

Its body is one that the codec can't decode.  So the worker accepts it, calls home, starts the answer and
ends it with an error item, all with real bytes, and the handler does not learn of it.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import Any

from reqplane.errors import DeliveryUnknown, PayloadError, StreamBroken
from reqplane.interfaces import PayloadCodec, PendingStream, RequestTransport, ResponseTransport
from reqplane.model import Annotated, Broken, Instance, Prologue
from reqplane.wire.frame import Frame
from reqplane.wire.request import HeadTemplate
from reqplane.wire.trace import INSTANCE

_CANDIDATES = (b"\xc1", b"\xff", b"", b"\x00")
"""0xc1 is the byte that msgpack never uses, 0xff the one that UTF-8 never uses."""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """Seconds from sending: to the ack, to the worker's connection home, to the end of the answer.

    The last two are None where a worker does not answer such a request.
    """

    accepted: float
    home: float | None = None
    whole: float | None = None


def undecodable(codec: PayloadCodec) -> bytes | None:
    """A body that this codec refuses; None if it takes everything."""
    for body in _CANDIDATES:
        try:
            codec.decode(body)
        except PayloadError:
            return body
    return None


@dataclass(frozen=True, slots=True)
class Prober:
    """Probes workers through opened transports; `patience` is the seconds that each step may take."""

    response: ResponseTransport
    patience: float

    async def probe(
        self, instance: Instance, transport: RequestTransport[Any], target: Any, codec: PayloadCodec
    ) -> RoundTrip:
        """One round trip; a ReqplaneError tells how far it came."""
        body = undecodable(codec)
        if body is None:
            raise PayloadError(f"the codec {codec.name} decodes everything, so it can't be probed")
        pending = self.response.expect(f"doctor-{uuid.uuid4()}")
        loop = asyncio.get_running_loop()
        headers = {} if instance.shared else {INSTANCE: f"{instance.instance_id}/{instance.incarnation}"}
        template = HeadTemplate(str(instance.endpoint), codec.name, pending.info)
        in_head = None if transport.capabilities.headers else headers
        frame = Frame(template.render(pending.info, None, in_head), body)
        begin = loop.time()
        sending = asyncio.ensure_future(transport.send(target, frame, headers, begin + self.patience))
        try:
            accepted = await self._accepted(sending, pending) - begin
            if instance.dynamo:  # it has logged by now that it can't read it, and does no more
                return RoundTrip(accepted)
            await self._called_home(pending)
            home = loop.time() - begin
            async with asyncio.timeout(self.patience):
                await _answered(pending)
            return RoundTrip(accepted, home, loop.time() - begin)
        except TimeoutError:
            raise StreamBroken(f"no end of the answer within {self.patience:g} s") from None
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            pending.close()

    async def _accepted(self, sending: asyncio.Future[None], pending: PendingStream) -> float:
        """Wait for the ack, which a call-home may overtake; the time at which the request had arrived."""
        await asyncio.wait(
            [sending, pending.opened], timeout=self.patience + 1, return_when=asyncio.FIRST_COMPLETED
        )
        now = asyncio.get_running_loop().time()
        if not pending.opened.done():
            if not sending.done():
                raise DeliveryUnknown("timed_out", f"no ack within {self.patience:g} s")
            sending.result()
        return now

    async def _called_home(self, pending: PendingStream) -> None:
        await asyncio.wait([pending.opened], timeout=self.patience)
        if not pending.opened.done():
            address = pending.info.address
            problem = f"the worker did not connect to {address} within {self.patience:g} s"
            raise DeliveryUnknown("never_called_home", problem)


async def _answered(pending: PendingStream) -> None:
    """Read to the end, whatever it says: that it came is what counts."""
    while True:
        for part in await pending.receive():
            if isinstance(part, Broken):
                raise StreamBroken(part.reason)
            if not isinstance(part, Prologue | Annotated) or (isinstance(part, Prologue) and part.error):
                return
