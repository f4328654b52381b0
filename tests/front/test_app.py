"""The application in another server's hands, and the forms of its answers."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import httpx
import pytest
import reqplane
from fleet import PATH, Fleet
from handlers import count
from memory_planes import eventually
from reqplane.errors import PayloadError
from reqplane.front.app import Front
from reqplane.front.endpoints import Endpoints
from reqplane.front.exchange import CutOff
from reqplane.front.forms import EVENTS, NDJSON, form_for, item_json
from reqplane.front.metrics import Metrics


async def failing(request: Any):
    yield 1
    raise ValueError("told to")


@pytest.mark.parametrize(("handler", "items"), [(count, "0\n1\n"), (failing, None)])
async def test_it_is_an_application_on_a_runtime(fleet: Fleet, handler: Any, items: str | None):
    metrics = Metrics()
    async with reqplane.connect(fleet.env, signals=False, observers=[metrics.calls]) as runtime:
        serving = asyncio.create_task(runtime.endpoint(PATH).serve_endpoint(handler))
        endpoints = Endpoints(runtime, ["test.*"])
        following = asyncio.create_task(endpoints.follow())
        await eventually(lambda: endpoints.known() == {PATH: 1})
        app: Any = Front(runtime, endpoints, metrics)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://front") as client:
            if items is not None:
                assert (await client.post(f"/v1/endpoints/{PATH}", json={"n": 2})).text == items
            else:
                with pytest.raises(CutOff):
                    await client.post(f"/v1/endpoints/{PATH}", json={})
        following.cancel()
        runtime.shutdown()
        await serving


async def test_a_server_may_ask_for_its_lifespan(fleet: Fleet):
    async with reqplane.connect(fleet.env, signals=False) as runtime:
        app: Any = Front(runtime, Endpoints(runtime, ["*"]), Metrics())
        asked = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        said: list[Any] = []

        async def receive() -> Any:
            return next(asked)

        async def send(message: Any) -> None:
            said.append(message["type"])

        await app({"type": "lifespan"}, receive, send)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", NDJSON),
        ("*/*", NDJSON),
        ("application/json", NDJSON),
        ("Text/Event-Stream", EVENTS),
        ("text/event-stream;q=0.5, application/x-ndjson", NDJSON),
        ("application/x-ndjson;q=0.1, text/event-stream; q=0.2", EVENTS),
        ("text/event-stream;q=0", NDJSON),
        ("text/event-stream;q=high", NDJSON),
        ("text/event-streams", NDJSON),
    ],
)
def test_the_form_is_what_was_asked_for(accept: str, form: Any):
    assert form_for(accept) is form


@pytest.mark.parametrize(
    ("item", "written"),
    [
        ({"a": [1, None, True, 1.5]}, b'{"a":[1,null,true,1.5]}'),
        ("gr\u00fc\u00df\n\u2028", None),
        ("\ud800", b'"\\ud800"'),
        ({"x": b"\x00\xff"}, b'{"x":{"$bytes":"AP8="}}'),
        ({1: 2}, b'{"1":2}'),
        (2**70, b"1180591620717411303424"),
    ],
)
def test_items_are_json_in_utf_8_on_one_line(item: Any, written: bytes | None):
    found = item_json(item, 0)
    assert found.decode()
    assert b"\n" not in found
    assert written in (None, found)


@pytest.mark.parametrize("item", [math.nan, [math.inf], {b"key": 1}, {1, 2}])
def test_what_json_has_not_is_an_error_that_counts_the_items(item: Any):
    with pytest.raises(PayloadError, match="item 7 of the answer"):
        item_json(item, 7)
