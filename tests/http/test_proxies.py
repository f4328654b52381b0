"""The frontend's side against nginx and nghttpd."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from reqplane.errors import CannotConnect, DeliveryUnknown, FrameTooLarge, RequestRefused, WorkerBusy
from reqplane.model import NEVER, Instance
from reqplane_http.target import Target
from reqplane_http.transport import HttpTransport

from .conftest import ENDPOINT, PATH, OpenTransport, StartWorker, Worker, frame
from .peers import Nginx, nghttpd, nginx
from .scripted import until

pytestmark = pytest.mark.system


def static(url: str, frontend: HttpTransport) -> Target:
    """What a frontend makes of a URL that nothing else is known of."""
    target = frontend.target(Instance(ENDPOINT, 0, 7, {"http": url}))
    assert target is not None
    return target


async def send_all(frontend: HttpTransport, url: str, count: int, at_once: int) -> None:
    """Frames with the bodies 0 … count - 1; raises what any of them meets."""
    target = static(url, frontend)
    numbers = iter(range(count))

    async def send_some() -> None:
        for number in numbers:
            await frontend.send(target, frame(b"%d" % number), {}, NEVER)

    await asyncio.gather(*(send_some() for _ in range(at_once)))


def each_once(here: Worker, count: int) -> bool:
    return Counter(here.bodies()) == Counter(b"%d" % number for number in range(count))


def url_of(plane: str, proxy: Nginx) -> str:
    return (proxy.h2c if plane == "h2c" else proxy.http1) + PATH


@pytest.mark.parametrize(
    ("plane", "count"),
    [("h2c", 10_000), ("http1", 2500), pytest.param("http1", 10_000, marks=pytest.mark.slow)],
)
@pytest.mark.timeout(240)
async def test_thousands_through_nginx(
    plane: str, count: int, worker: StartWorker, transport: OpenTransport, tmp_path: Path
) -> None:
    """It ends a connection every 1000 requests.  None is lost, none is delivered twice."""
    here, frontend = await worker(), await transport({"DYN_HTTP_REQUEST_TIMEOUT": "30"})
    at_once = 32 if plane == "h2c" else 2  # each on a connection of its own
    async with nginx(tmp_path, here.port, keepalive_requests=1000) as proxy:
        await send_all(frontend, url_of(plane, proxy), count, at_once)
    assert each_once(here, count)


@pytest.mark.parametrize("plane", ["h2c", "http1"])
async def test_an_nginx_that_ends_connections_all_the_time(
    plane: str, worker: StartWorker, transport: OpenTransport, tmp_path: Path
) -> None:
    here, frontend = await worker(), await transport({"DYN_HTTP_REQUEST_TIMEOUT": "30"})
    async with nginx(tmp_path, here.port, keepalive_requests=20) as proxy:
        await send_all(frontend, url_of(plane, proxy), 1000, at_once=100 if plane == "h2c" else 20)
    assert each_once(here, 1000)


@pytest.mark.parametrize("plane", ["h2c", "http1"])
@pytest.mark.parametrize("size", [0, 60_000, 300_000])
async def test_frames_of_any_size_through_nginx(
    plane: str, size: int, worker: StartWorker, transport: OpenTransport, tmp_path: Path
) -> None:
    """And what answers: refusals of the worker as they are, nginx's own as what they mean."""
    here, frontend = await worker(), await transport()
    async with nginx(tmp_path, here.port, keepalive_requests=1000) as proxy:
        url = url_of(plane, proxy)
        await frontend.send(static(url, frontend), frame(b"x" * size), {"x-request-id": "1"}, NEVER)
        assert here.bodies() == [b"x" * size]
        assert here.got[0].headers == {"x-request-id": "1"}
        here.refuse = WorkerBusy("full")
        with pytest.raises(WorkerBusy, match="full"):
            await frontend.send(static(url, frontend), frame(b"x" * size), {}, NEVER)


@pytest.mark.parametrize("plane", ["h2c", "http1"])
async def test_the_answers_of_nginx(
    plane: str, worker: StartWorker, transport: OpenTransport, tmp_path: Path
) -> None:
    here, frontend = await worker(), await transport()
    async with nginx(tmp_path, here.port, keepalive_requests=1000) as proxy:
        target = static(url_of(plane, proxy), frontend)
        with pytest.raises(FrameTooLarge, match="client_max_body_size"):
            await frontend.send(target, frame(b"x" * 1_100_000), {}, NEVER)
        elsewhere = static(url_of(plane, proxy).replace("/v1/", "/redirect/"), frontend)
        with pytest.raises(DeliveryUnknown, match="answered 301") as caught:
            await frontend.send(elsewhere, frame(), {}, NEVER)
        assert (caught.value.reason, caught.value.status) == ("gateway", 301)
        await frontend.send(target, frame(), {}, NEVER)
        await here.listener.close()
        with pytest.raises(DeliveryUnknown, match="answered 502") as caught:
            await frontend.send(target, frame(), {}, NEVER)
        assert (caught.value.reason, caught.value.status) == ("gateway", 502)
    with pytest.raises(CannotConnect, match="refused"):
        await frontend.send(target, frame(), {}, NEVER)
    assert len(here.got) == 1


def announced(url: str, frontend: HttpTransport, **members: object) -> Target:
    """What a frontend makes of the record of a worker that tells others of a proxy."""
    transport = {"http_tcp": {"http_endpoint": url, "h2c": True, **members}}
    target = frontend.target(Instance(ENDPOINT, 0, 7, transport))
    assert target is not None
    return target


@pytest.mark.parametrize("members", [{}, {"batch": 1}], ids=["alone", "batches"])
async def test_guide_17_a_proxy_without_http2_that_a_record_names_gets_http1(
    members: dict[str, int], worker: StartWorker, transport: OpenTransport, tmp_path: Path
) -> None:
    """It answers the preface by HTTP/1.1 400: what was sent with that goes again, and no later one does."""
    here, frontend = await worker(), await transport()
    async with nginx(tmp_path, here.port, keepalive_requests=1000) as proxy:
        target = announced(proxy.http1 + PATH, frontend, **members)
        sends = [frontend.send(target, frame(b"%d" % n), {"x-request-id": "1"}, NEVER) for n in range(150)]
        await asyncio.gather(*sends)
        assert each_once(here, 150)
        assert {delivery.headers["x-request-id"] for delivery in here.got} == {"1"}
        await until(lambda: not frontend._client._origins)  # its connection is closed
        await frontend.send(target, frame(b"150"), {}, NEVER)
        assert each_once(here, 151)
        assert frontend._client._http1_until
        assert not frontend._client._origins


async def test_guide_17_it_is_asked_again_after_a_minute(
    worker: StartWorker, transport: OpenTransport, tmp_path: Path
) -> None:
    here, frontend = await worker(), await transport()
    async with nginx(tmp_path, here.port, keepalive_requests=1000) as proxy:
        target = announced(proxy.http1 + PATH, frontend)
        await frontend.send(target, frame(), {}, NEVER)
        only_http1 = frontend._client._http1_until
        assert 50 < only_http1[target.origin] - asyncio.get_running_loop().time() <= 60
        only_http1[target.origin] = 0.0  # the minute is over
        send = frontend.send(target, frame(), {}, NEVER)
        assert not only_http1
        await send
        assert only_http1
    assert len(here.got) == 2


@pytest.mark.parametrize("members", [{}, {"batch": 1}], ids=["alone", "batches"])
async def test_errors_and_cancelling_on_the_way_round_by_http1(
    members: dict[str, int], worker: StartWorker, transport: OpenTransport, tmp_path: Path
) -> None:
    here, frontend = await worker(), await transport()
    here.refuse = WorkerBusy("full")
    async with nginx(tmp_path, here.port, keepalive_requests=1000) as proxy:
        target = announced(proxy.http1 + PATH, frontend, **members)
        sends = [asyncio.ensure_future(frontend.send(target, frame(), {}, NEVER)) for _ in range(20)]
        while not frontend._client._http1_until:
            await asyncio.sleep(0)
        for send in sends[::2]:
            send.cancel()
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes[::2]} == {asyncio.CancelledError}
    assert {type(outcome) for outcome in outcomes[1::2]} == {WorkerBusy}
    assert len({id(outcome) for outcome in outcomes[1::2]}) == 10  # each may get its own request written in


async def test_nghttpd_with_few_streams(transport: OpenTransport, tmp_path: Path) -> None:
    """300 at once, and it allows 5 on a connection: what it refuses at first is sent again."""
    frontend = await transport({"DYN_HTTP_REQUEST_TIMEOUT": "30"})
    async with nghttpd(tmp_path, "--max-concurrent-streams=5") as url:
        target = static(f"{url}/nothing", frontend)
        sends = [frontend.send(target, frame(b"x" * 5000), {}, NEVER) for _ in range(300)]
        errors = await asyncio.gather(*sends, return_exceptions=True)
        (origin,) = frontend._client._origins.values()
        assert len(origin._connections) <= 8
    assert {type(error) for error in errors} == {RequestRefused}
    assert all("answered 404" in str(error) for error in errors)


@pytest.mark.parametrize("bits", [1, 10, 30])
async def test_nghttpd_with_windows_of_any_size(bits: int, transport: OpenTransport, tmp_path: Path) -> None:
    """From windows of one byte to some that are larger than the frame."""
    size = 200 if bits < 10 else 500_000
    frontend = await transport({"DYN_HTTP_REQUEST_TIMEOUT": "30"})
    async with nghttpd(tmp_path, f"--window-bits={bits}", "--echo-upload") as url:
        target = static(f"{url}/nothing", frontend)
        with pytest.raises(DeliveryUnknown, match="answered 200") as caught:
            await frontend.send(target, frame(b"x" * size), {}, NEVER)
        assert caught.value.status == 200
