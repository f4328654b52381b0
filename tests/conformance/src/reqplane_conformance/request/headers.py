"""Headers travel beside the frame: those that were sent, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from reqplane.interfaces import Delivery
from reqplane.model import Headers
from reqplane.wire.trace import CARRIED, INSTANCE

from reqplane_conformance.case import case
from reqplane_conformance.request.frames import check_arrived, noise
from reqplane_conformance.request.hooks import RequestSuite
from reqplane_conformance.request.stage import Frontend, RequestStage
from reqplane_conformance.verdict import check

NAMES = (*CARRIED, INSTANCE)
"""What the core gives along, and what it looks for when a frame arrives."""
_LONGEST = 1024
_SAMPLE: Headers = {
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7",
    "x-request-id": "7f3e:42/a+b=c",
    "x-dynamo-request-id": "5a1e3c52-2f0b-4d8e-9a55-0d6f4e3b2c11",
    "request-id": "r",
    INSTANCE: "3/9151314442816847871",
}
_NONE: Headers = {}
_ODD = (
    "".join(map(chr, range(0x21, 0x7F))),
    "two words",
    "  and   more  ".strip(),
    '"quoted"; a=b, c=d',
    "%0d%0a%20",
    "\\r\\n",
    "name: value",
    "0",
    "null",
)
_CARRYING = "what `send` makes of `headers`, and what the listener puts into Delivery.headers"


async def headers_of(frontend: Frontend, worker: Any, headers: Headers) -> dict[str, str]:
    """Send with these headers; those that arrived, as far as the core looks for them."""
    when = f"that has the headers {_shown(headers)}"
    frame = await frontend.deliver(worker, headers=dict(headers), when=when)
    check_arrived(worker, frame)
    arrived: dict[str, str] = worker.got[-1].headers
    return {name: value for name, value in arrived.items() if name in NAMES or name.startswith("x-reqplane-")}


def check_headers(
    arrived: Mapping[str, str], sent: Mapping[str, str], of_what: str = "a frame", *, basic: bool = False
) -> None:
    """All that were sent are there as they were, and no other.  `basic`: no odd ones are among them, so that
    there are cases about whatever is wrong."""
    __tracebackhide__ = True
    wrong = {name: arrived.get(name) for name, value in sent.items() if arrived.get(name) != value}
    check(
        not wrong,
        did=f"{of_what} that was sent with {_shown(sent)} arrived with {_shown(wrong)} instead",
        wanted="each of the headers as it was sent, its name in lower case",
        look=_CARRYING,
        blame="headers.arrive_unchanged" if basic else "",
    )
    invented = {name: value for name, value in arrived.items() if name not in sent}
    check(
        not invented,
        did=f"{of_what} that was sent with {_shown(sent)} arrived with {_shown(invented)} as well",
        wanted="no trace, id or x-reqplane- header that its sender did not give along",
        look="what your library adds by itself, and headers that are kept from one request to the next",
        blame="headers.none_invented" if basic else "",
    )


def _shown(headers: Mapping[str, str | None]) -> str:
    text = str(dict(headers))
    return text if len(text) < 250 else f"{text[:250]} …"


class HeaderCases(RequestSuite, suite=True):
    """Headers, where a transport carries them, and that they do no harm elsewhere."""

    group = "headers"

    @case()
    async def test_always_a_mapping(self, stage: RequestStage) -> None:
        """`accept` gets a mapping of texts, names in lower case, also where none came or none are carried."""
        frontend, worker = await stage.frontend(), await stage.worker()
        got: list[Delivery] = []
        worker.on_accept = got.append
        for sent in (_NONE, _SAMPLE):
            when = "whatever headers are given along"
            check_arrived(worker, await frontend.deliver(worker, headers=dict(sent), when=when))
            headers: Any = got[-1].headers
            texts = isinstance(headers, Mapping) and all(
                isinstance(name, str) and name == name.lower() and isinstance(value, str)
                for name, value in headers.items()  # pyright: ignore[reportUnknownVariableType]
            )
            check(
                texts,
                did=f"Delivery.headers was {headers!r:.300}",
                wanted="a mapping of str to str, names in lower case; {} where there are none",
                look="the arguments of Delivery",
            )

    @case()
    async def test_are_only_read(self, stage: RequestStage) -> None:
        """`send` reads the headers and does not change them: the call's other attempts have the same."""
        frontend, worker = await stage.frontend(), await stage.worker()
        headers = dict(_SAMPLE)
        look = "`send`: it takes any Mapping, and makes one of its own where it wants to add something"
        await frontend.deliver(
            worker, headers=MappingProxyType(headers), when="whose headers are no dict", look=look
        )
        await frontend.deliver(worker, headers=headers)
        became = f"send made {_shown(headers)} of {len(_SAMPLE)} headers"
        check(headers == _SAMPLE, did=became, wanted="no change", look=look)

    @case(needs=("headers",), priority=4)
    async def test_arrive_unchanged(self, stage: RequestStage) -> None:
        """Trace headers, request ids and the core's own arrive as they were sent, all at once and alone."""
        frontend, worker = await stage.frontend(), await stage.worker()
        check_headers(await headers_of(frontend, worker, _SAMPLE), _SAMPLE, basic=True)
        for name, value in _SAMPLE.items():
            check_headers(await headers_of(frontend, worker, {name: value}), {name: value}, basic=True)

    @case(needs=("headers",))
    async def test_names_in_any_case(self, stage: RequestStage) -> None:
        """A name counts in upper and lower case alike, and arrives in lower case."""
        frontend, worker = await stage.frontend(), await stage.worker()
        for change in (str.title, str.upper, str.lower):
            sent = {change(name): value for name, value in _SAMPLE.items()}
            arrived = await headers_of(frontend, worker, sent)
            check(
                arrived == _SAMPLE,
                did=f"the headers {_shown(sent)} arrived as {_shown(arrived)}",
                wanted="the same values, names in lower case",
                look=_CARRYING,
            )

    @case(needs=("headers",), priority=4)
    async def test_none_invented(self, stage: RequestStage) -> None:
        """`accept` sees no trace, id or x-reqplane- header that was not sent with this very frame."""
        frontend, worker = await stage.frontend(), await stage.worker()
        first: Headers = {"traceparent": _SAMPLE["traceparent"]}
        for sent in (_NONE, _SAMPLE, _NONE, first, _NONE):
            check_headers(await headers_of(frontend, worker, sent), sent, basic=True)

    @case(needs=("headers",))
    async def test_odd_values(self, stage: RequestStage) -> None:
        """A value may have every visible character and spaces within, whatever they mean to others."""
        frontend, worker = await stage.frontend(), await stage.worker()
        for value in _ODD:
            sent = {"tracestate": value, "x-request-id": value}
            check_headers(await headers_of(frontend, worker, sent), sent)

    @case(needs=("headers",))
    async def test_long_values(self, stage: RequestStage) -> None:
        """All headers of the core may have values of 1 KiB at once, also beside the largest frame."""
        frontend, worker = await stage.frontend(), await stage.worker()
        sent = {name: (name * _LONGEST)[:_LONGEST] for name in NAMES}
        check_headers(await headers_of(frontend, worker, sent), sent)
        most = min(1024 * 1024, frontend.transport.max_frame_bytes)
        frame = stage.frame(noise(most - 128))
        when = f"of {len(frame)} bytes, where {most} are allowed, with {_LONGEST} bytes in each header"
        look = "`max_frame_bytes`: what a message may have in all, less the room for some 7 KiB of headers"
        await frontend.deliver(worker, frame, sent, when=when, look=look)
        check_headers(worker.got[-1].headers, sent, "a large frame")

    @case(needs=("headers",))
    async def test_each_with_its_own_frame(self, stage: RequestStage) -> None:
        """Of frames that are sent at once each arrives with its own headers."""
        frontend, worker = await stage.frontend(), await stage.worker()
        frames = {stage.frame(): {"x-request-id": f"number {number}"} for number in range(64)}
        for frame in list(frames)[::4]:
            frames[frame] = {}
        await asyncio.gather(*(frontend.deliver(worker, frame, dict(sent)) for frame, sent in frames.items()))
        arrived = {got.frame: got.headers for got in worker.got}
        for frame, sent in frames.items():
            got = arrived.get(frame.join(), {})
            told = {name: value for name, value in got.items() if name in NAMES}
            check_headers(told, sent, "a frame among others")
