"""What a served endpoint accepts, and what it refuses before any handler runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from memory_planes import Network
from reqplane.context import Context
from reqplane.errors import InvalidFrame, NotAllowed, UnknownEndpoint, WorkerDraining, WrongInstance
from reqplane.interfaces import Delivery
from reqplane.wire.frame import Frame
from reqplane.wire.request import HeadTemplate

from .conftest import CODECS, ENDPOINT, Fleet

OURS = str(ENDPOINT)


class Worker:
    """Instance 0, incarnation 100; notes the headers of what it accepts."""

    def __init__(self, streamed: bool = False) -> None:
        self.fleet = Fleet(Network(), "msgpack")
        self.served: list[Mapping[str, str]] = []
        self.endpoint = self.fleet.add(self._handler, streamed=streamed)

    async def _handler(self, request: Any, context: Context) -> AsyncIterator[int]:
        self.served.append(context.headers)
        yield request

    async def take(
        self,
        endpoint: str = OURS,
        codec: str = "msgpack",
        headers: Mapping[str, str] | None = None,
        *,
        in_head: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> Mapping[str, str]:
        """Hand a frame to `accept`; the headers that the handler got.  A refusal is raised."""
        info = self.fleet.response.expect("r").info
        head = json.loads(HeadTemplate(endpoint, codec, info).render(info, headers=in_head))
        head.update(members or {})
        head = {name: value for name, value in head.items() if value is not None}
        frame = Frame(json.dumps(head).encode(), CODECS.get(codec, CODECS["json"]).encode(1))
        self.endpoint.accept(Delivery(frame.join(), headers or {}, "memory"))
        await asyncio.gather(*self.endpoint.running)
        return self.served[-1]

    async def refuses(self, error: type[Exception], match: str, **request: Any) -> None:
        """It is refused, and nothing has started."""
        before = len(self.served)
        with pytest.raises(error, match=match):
            await self.take(**request)
        assert not self.endpoint.running
        assert len(self.served) == before


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = Worker()
    yield worker
    await worker.fleet.close()


async def test_its_own_endpoint_and_one_that_is_not_named(worker: Worker) -> None:
    await worker.take()
    await worker.take(members={"endpoint": None})  # Dynamo's heads do not say it
    assert len(worker.served) == 2


@pytest.mark.parametrize("other", ["ns.comp.eq", "ns.comp.ep.x", "", "ns2.comp.ep"])
async def test_a_frame_for_another_endpoint(worker: Worker, other: str) -> None:
    await worker.refuses(UnknownEndpoint, r"this is ns\.comp\.ep", endpoint=other)


async def test_an_unknown_codec(worker: Worker) -> None:
    await worker.refuses(InvalidFrame, "'zstd' is not installed here; there are msgpack, json", codec="zstd")


async def test_a_head_without_a_codec_is_json(worker: Worker) -> None:
    await worker.take(codec="json", members={"payload_codec": None})
    assert len(worker.served) == 1


REQUEST_INFO = json.dumps({"address": "h:1", "subject": "s", "context": "r", "stream_type": "request"})
MANY_IN = {
    "request_type": "many_in",
    "request_stream_connection_info": {"transport": "tcp_server", "info": REQUEST_INFO},
}


async def test_a_request_that_is_a_stream(worker: Worker) -> None:
    await worker.refuses(
        InvalidFrame,
        "unary engine received a header-only envelope; expected a request payload: .* takes single requests",
        members=MANY_IN,
    )


async def test_a_stream_without_the_place_where_it_comes_from(worker: Worker) -> None:
    await worker.refuses(
        InvalidFrame, "request_stream_connection_info is missing", members={"request_type": "many_in"}
    )


@pytest.mark.parametrize(
    ("members", "match"),
    [({}, "this one is single: send an async iterable"), (MANY_IN, "its frame has no body")],
)
async def test_a_body_where_requests_are_streams(members: Mapping[str, Any], match: str) -> None:
    worker = Worker(streamed=True)
    wanted = f"bidirectional engine received a non-header-only envelope: .*{match}"
    await worker.refuses(InvalidFrame, wanted, members=members)
    await worker.fleet.close()


@pytest.mark.parametrize("members", [{"id": 7}, {"connection_info": None}, {"timeout_ms": "soon"}])
async def test_a_head_that_cannot_be_read(worker: Worker, members: Mapping[str, Any]) -> None:
    await worker.refuses(InvalidFrame, "wanted", members=members)


async def test_while_it_drains(worker: Worker) -> None:
    worker.endpoint.draining = True
    await worker.refuses(WorkerDraining, "leaving")


# ── x-reqplane-instance ──


@pytest.mark.parametrize("wanted", ["0", "0/", "0/100", "7/100"])
async def test_a_frame_for_this_worker(worker: Worker, wanted: str) -> None:
    """An incarnation says it for sure, whatever the number that the frontend still has for it."""
    assert await worker.take(headers={"x-reqplane-instance": wanted}) == {}
    assert await worker.take(in_head={"x-reqplane-instance": wanted}) == {}


@pytest.mark.parametrize("wanted", ["1", "0/101", "00", "/101", "x"])
async def test_a_frame_for_another_worker(worker: Worker, wanted: str) -> None:
    headers = {"x-reqplane-instance": wanted}
    await worker.refuses(WrongInstance, "for the instance", headers=headers)
    await worker.refuses(WrongInstance, "for the instance", in_head=headers)


async def test_the_planes_header_counts_before_the_heads(worker: Worker) -> None:
    await worker.take(headers={"x-reqplane-instance": "0/100"}, in_head={"x-reqplane-instance": "1/101"})
    await worker.refuses(
        WrongInstance,
        "for the instance",
        headers={"x-reqplane-instance": "1/101"},
        in_head={"x-reqplane-instance": "0/100"},
    )


async def test_a_number_that_it_had_until_lately(worker: Worker) -> None:
    worker.endpoint.instance_ids = {4, 5}
    await worker.take(headers={"x-reqplane-instance": "4"})
    await worker.take(headers={"x-reqplane-instance": "5"})
    await worker.refuses(WrongInstance, "for the instance", headers={"x-reqplane-instance": "0"})


async def test_other_headers_go_on_to_the_handler(worker: Worker) -> None:
    headers = {"traceparent": "00-x-01", "x-reqplane-instance": "0/100", "cookie": "secret"}
    assert await worker.take(headers=headers) == {"traceparent": "00-x-01"}
    assert await worker.take(in_head=headers) == {"traceparent": "00-x-01"}


async def test_what_fails_while_a_frame_is_accepted_holds_nothing(worker: Worker) -> None:
    with pytest.raises(AttributeError):
        await worker.take(headers={5: "a plane's mistake"})  # type: ignore[dict-item]
    assert worker.fleet.host.inflight.used == 0


async def test_a_place_that_it_may_not_call_home_to(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.fleet.response, "objection", lambda info: f"not to {info.address}")
    await worker.refuses(NotAllowed, "not to memory:1")
