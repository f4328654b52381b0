"""Input that is meant to do harm, over real sockets: none is taken for a frame, none hurts others.

Every test ends with the same question: does the worker still serve, and does it hold nothing any more?
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import struct

import pytest
import reqplane_http.body
from reqplane.errors import WorkerBusy
from reqplane.interfaces import Delivery
from reqplane_http import batch

from .conftest import PATH, StartVictim, Worker, frame
from .hostile import BODY, Raw, Raw2, inflight, post, under_way
from .scripted import until

BATCH = "application/vnd.reqplane.batch"


# ── heads that two readers could read differently ───────────────────────────────────────────────────

_N = len(BODY)
_CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (_N, BODY)

AMBIGUOUS = {
    "CL.TE": (400, post(6, "transfer-encoding: chunked") + b"0\r\n\r\nG"),
    "TE.CL": (400, post(None, "transfer-encoding: chunked", f"content-length: {_N}") + _CHUNKED),
    "two lengths": (400, post(_N, "content-length: 1") + BODY),
    "two equal lengths": (400, post(_N, f"content-length: {_N}") + BODY),
    "two lengths in a HEAD": (400, post(_N, "content-length: 1").replace(b"POST", b"HEAD") + BODY),
    "a list of lengths": (400, post(None, f"content-length: {_N}, 1") + BODY),
    "length +": (400, post(None, f"content-length: +{_N}") + BODY),
    "length -": (400, post(None, "content-length: -1") + BODY),
    "length hex": (400, post(None, "content-length: 0x20") + BODY),
    "length _": (400, post(None, "content-length: 1_0") + BODY),
    "length none": (400, post(None, "content-length: ") + BODY),
    "length huge": (400, post(None, "content-length: " + "9" * 30) + BODY),
    "TE twice": (501, post(None, "transfer-encoding: chunked", "transfer-encoding: chunked") + _CHUNKED),
    "TE list": (501, post(None, "transfer-encoding: gzip, chunked") + _CHUNKED),
    "TE unknown": (501, post(None, "transfer-encoding: xchunked") + _CHUNKED),
    "TE tab": (400, post(None, "transfer-encoding: \x0bchunked") + _CHUNKED),
    "TE in 1.0": (
        400,
        post(None, "transfer-encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0") + _CHUNKED,
    ),
    "space before colon": (400, post(None, f"content-length : {_N}") + BODY),
    "fold": (400, post(_N, "x: a\r\n b") + BODY),
    "fold of a length": (400, post(None, f"content-length:\r\n {_N}") + BODY),
    "bare LF": (400, post(_N, "x: a\ny: b") + BODY),
    "bare LF at the end": (400, post().replace(b"\r\n\r\n", b"\r\n\n") + BODY),
    "only LF": (400, post().replace(b"\r\n", b"\n") + BODY),
    "bare CR": (400, post(_N, "x: a\ry: b") + BODY),
    "NUL in a value": (400, post(_N, "x: a\0b") + BODY),
    "NUL in a name": (400, post(_N, "x\0: a") + BODY),
    "no colon": (400, post(_N, "x") + BODY),
    "no name": (400, post(_N, ": x") + BODY),
    "NUL in the path": (400, post(path=PATH + "\0") + BODY),
    "space in the path": (400, post(path=PATH + " x") + BODY),
    "no host": (400, post().replace(b"host: x\r\n", b"") + BODY),
    "two hosts": (400, post(_N, "host: y") + BODY),
    "HTTP/0.9": (400, b"POST " + PATH.encode() + b"\r\n\r\n"),
    "HTTP/3.0": (505, post().replace(b"HTTP/1.1", b"HTTP/3.0") + BODY),
    "small letters": (400, post().replace(b"POST", b"post") + BODY),
    "TLS": (400, bytes.fromhex("16030100c8010000c40303") + b"\r\n\r\n"),
    "chunk size no number": (400, post(None, "transfer-encoding: chunked") + b"zz\r\n" + BODY),
    "chunk size -1": (400, post(None, "transfer-encoding: chunked") + b"-1\r\n" + BODY),
    "chunk size 0x": (400, post(None, "transfer-encoding: chunked") + b"0x20\r\n" + BODY),
    "chunk size huge": (400, post(None, "transfer-encoding: chunked") + b"f" * 30 + b"\r\n" + BODY),
    "chunk without end": (400, post(None, "transfer-encoding: chunked") + b"3\r\nabcdef\r\n0\r\n\r\n"),
    "trailer with LF": (400, post(None, "transfer-encoding: chunked") + b"0\r\nx: y\n\r\n"),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
async def test_an_ambiguous_request_is_refused_and_ends_its_connection(
    case: str, victim: StartVictim
) -> None:
    """What follows is never read as a second request."""
    status, sent = AMBIGUOUS[case]
    here = await victim()
    async with Raw(here.port) as peer:
        await peer.send(sent + post() + BODY)
        answer = await peer.rest()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert len(re.findall(rb"HTTP/1\.1 \d", answer)) == 1
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert here.got == []


async def test_the_answer_says_what_is_wrong(victim: StartVictim) -> None:
    here = await victim()
    async with Raw(here.port) as peer:
        await peer.send(post(6, "transfer-encoding: chunked"))
        assert b"one Content-Length or Transfer-Encoding is allowed" in await peer.rest()


async def test_chunks_are_read(victim: StartVictim) -> None:
    """What is refused above is not refused for its own sake."""
    here = await victim()
    async with Raw(here.port) as peer:
        await peer.send(post(None, "transfer-encoding: chunked") + _CHUNKED)
        assert await peer.answer() == (202, b"")
        await peer.send(post().replace(b"HTTP/1.1", b"HTTP/1.0") + BODY)
        assert (await peer.rest()).startswith(b"HTTP/1.1 202 ")
    assert here.bodies() == [b"hello"] * 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("content-length", "1")], None),
        ([("content-length", str(_N + 1))], None),
        ([("transfer-encoding", "chunked")], None),
        ([("content-length", str(_N)), ("content-length", str(_N))], 400),
        ([("content-length", "1"), ("content-length", str(_N))], None),
        ([("connection", "close")], None),
        ([("X-Upper", "1")], None),
        ([("x", "a\r\nb")], None),
        ([("x", "a\0b")], None),
        ([("host", "another")], None),
    ],
)
async def test_a_head_that_http2_forbids(
    headers: list[tuple[str, str]], status: int | None, victim: StartVictim
) -> None:
    """A protocol error ends the connection; that is h2's way, and RFC 9113 allows it."""
    here = await victim()
    async with Raw2(here.port) as peer:
        if status is not None:
            assert (await peer.post(*headers)).status == status
        else:
            stream = peer.ask(PATH, *headers)
            peer.h2.send_data(stream, BODY, end_stream=True)
            await peer.flush()
            assert await peer.ended() == 1  # PROTOCOL_ERROR
    assert here.got == []


# ── targets and methods ─────────────────────────────────────────────────────────────────────────────

TARGETS = [
    "//" + PATH,
    "/" + PATH,
    PATH + "/",
    PATH + "/..",
    "/x/.." + PATH,
    "/%2e%2e" + PATH,
    "/x/%2e%2e" + PATH,
    PATH + "%00",
    PATH + "%0d%0ax-evil:%201",
    PATH + "%1b[31mred",
    PATH + ".instance.0%0a",
    PATH + ".instance.%d9%a3",  # a digit, but not an ASCII one
    PATH + ";x",
    "/v1/dynamo/%2f" + PATH,
    "/v1/dynamo/namespace.default.component.backend.endpoint.*",
    "/v1/dynamo/namespace.default.component.backend.endpoint.-",
    "/v1/dynamo/namespace.default.component.backend.endpoint.generate%20",
    "/" + "a" * 8192,
    PATH + "a" * 8192,
    "*",
    "http://x" + PATH,
    "x:80",
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target[:60])
async def test_an_odd_target_is_404_and_nothing_else(target: str, victim: StartVictim) -> None:
    here = await victim()
    async with Raw(here.port) as http1, Raw2(here.port) as http2:
        for _ in range(2):  # the connection lives on
            await http1.send(post(path=target) + BODY)
            status, body = await http1.answer()
            assert status == 404
            assert body.decode().strip().isprintable()
            assert len(body) < 1000
            answer = await http2.post(path=target)
            assert (answer.status, answer.body) == (404, body)
            assert "x-evil" not in answer.headers
    assert here.got == []


async def test_what_can_be_no_endpoint_has_no_refusal_code(victim: StartVictim) -> None:
    """Its code would say that another worker may serve it."""
    here = await victim()
    root = "/v1/dynamo/namespace.default.component.backend.endpoint."
    async with Raw2(here.port) as peer:
        for name, code in (
            ("other", "unknown_endpoint"),
            ("a" * 128, "unknown_endpoint"),
            ("a" * 129, None),
            ("-a", None),
            ("a%20b", None),
            ("%c3%bc", None),
            ("a%0a", None),
        ):
            answer = await peer.post(path=root + name)
            assert (answer.status, answer.headers.get("x-reqplane-refusal")) == (404, code), name


@pytest.mark.parametrize("path", ["/\x80", "/ü", PATH + "\xff"])
async def test_a_path_out_of_ascii_ends_its_stream_only(path: str, victim: StartVictim) -> None:
    here = await victim()
    async with Raw2(here.port) as peer:
        innocent = peer.ask()
        bad = peer.ask(path)
        peer.h2.send_data(bad, BODY, end_stream=True)
        peer.h2.send_data(innocent, BODY, end_stream=True)
        assert (await peer.answered(bad)).status == 0
        assert (await peer.answered(innocent)).status == 202
    assert here.bodies() == [b"hello"]


@pytest.mark.parametrize("path", ["/a\0b", "/a\nb", "/a b", "/a\x1b[31m"])
async def test_control_characters_in_an_http2_path_do_no_harm(
    path: str, victim: StartVictim, caplog: pytest.LogCaptureFixture
) -> None:
    here = await victim()
    async with Raw2(here.port) as peer:
        stream = peer.ask(path)
        peer.h2.send_data(stream, BODY, end_stream=True)
        await peer.flush()
        try:
            answer = await peer.answered(stream)
        except AssertionError:
            assert peer.lost
        else:
            assert answer.status in (0, 404)
            assert answer.body.decode().strip().isprintable()
    assert all(record.getMessage().isprintable() for record in caplog.records)


@pytest.mark.parametrize("method", ["BREW", "TRACE", "PATCH", "A" * 5000, "M-SEARCH"])
async def test_an_unknown_method_is_405(method: str, victim: StartVictim) -> None:
    here = await victim()
    async with Raw(here.port) as http1, Raw2(here.port) as http2:
        await http1.send(post().replace(b"POST", method.encode()) + BODY)
        status, body = await http1.answer()
        assert (status, len(body) < 1000) == (405, True)
        stream = http2.ask(method=method)
        http2.h2.send_data(stream, BODY, end_stream=True)
        assert (await http2.answered(stream)).status == 405
    assert here.got == []


@pytest.mark.parametrize(
    ("method", "headers"),
    [("CONNECT", [(":protocol", "websocket")]), ("post", []), ("P\xd6ST", []), ("", [])],
)
async def test_a_method_that_is_none_ends_its_stream_only(
    method: str, headers: list[tuple[str, str]], victim: StartVictim
) -> None:
    here = await victim()
    async with Raw2(here.port) as peer:
        stream = peer.ask(PATH, *headers, method=method)
        assert (await peer.answered(stream)).status == 0
        assert (await peer.post()).status == 202


async def test_a_tunnel_is_refused(victim: StartVictim) -> None:
    here = await victim()
    async with Raw2(here.port) as peer:
        peer.h2.send_headers(1, [(":method", "CONNECT"), (":authority", "x:80")])
        assert (await peer.answered(1)).status == 0


async def test_a_websocket_is_refused(victim: StartVictim) -> None:
    here = await victim()
    async with Raw(here.port) as peer:
        await peer.send(
            b"GET " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert (await peer.rest()).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("settings", [b"", b"AAMAAABk", b"!!!!", b"AAMA", b"A" * 10000])
async def test_an_upgrade_to_http2(settings: bytes, victim: StartVictim) -> None:
    """Broken settings end their own connection only."""
    here = await victim()
    async with Raw(here.port) as peer:
        await peer.send(
            b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
            b"http2-settings: " + settings + b"\r\n\r\n"
        )
        peer.writer.write_eof()
        assert (await peer.rest()).startswith(b"HTTP/1.1 101 ")


# ── headers ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", ["gzip", "identity", "deflate, gzip", "", "br"])
async def test_content_encoding_is_415(value: str, victim: StartVictim) -> None:
    here = await victim()
    async with Raw(here.port) as http1, Raw2(here.port) as http2:
        for kind in ("application/octet-stream", BATCH):
            for extra in ([], [("content-encoding", "x")]):
                headers = [("content-encoding", value), ("content-type", kind), *extra]
                body = BODY if kind != BATCH else b"".join(batch.pack(frame(), {}))
                await http1.send(post(len(body), *(f"{name}: {one}" for name, one in headers)) + body)
                assert (await http1.answer())[0] == 415
                assert (await http2.post(*headers, body=body)).status == 415
    assert here.got == []


async def test_headers_over_16_kib_are_431_over_http1(victim: StartVictim) -> None:
    here = await victim()
    for pieces in (1, 7):
        head = post(_N, "x: " + "a" * 20_000)
        async with Raw(here.port) as peer:
            step = len(head) // pieces + 1
            for at in range(0, len(head), step):
                await peer.send(head[at : at + step])
                await asyncio.sleep(0.01)
            assert (await peer.rest()).startswith(b"HTTP/1.1 431 ")
    async with Raw(here.port) as peer:
        await peer.send(b"POST / HTTP/1.1\r\n" + b"a" * 17_000)
        assert (await peer.rest()).startswith(b"HTTP/1.1 431 ")
    async with Raw(here.port) as peer:
        await peer.send(post(_N, *(f"x{n}:" for n in range(600))) + BODY)
        assert (await peer.answer())[0] == 431
        await peer.send(post(_N, "x: " + "a" * 15_000) + BODY)
        assert (await peer.answer())[0] == 202
    assert len(here.got) == 1


async def test_headers_over_16_kib_are_431_over_http2_and_leave_others_alone(victim: StartVictim) -> None:
    here = await victim()
    async with Raw2(here.port) as peer:
        innocent = peer.ask()
        for _ in range(2):
            assert (await peer.post(("x", "a" * 20_000))).status == 431
            assert (await peer.post(("x", "a" * 15_000))).status == 202
        assert (await peer.post(*((f"x{n}", "") for n in range(600)))).status == 431
        peer.h2.send_data(innocent, BODY, end_stream=True)
        assert (await peer.answered(innocent)).status == 202
        assert peer.h2.remote_settings.max_header_list_size == 16 * 1024
    assert len(here.got) == 3


async def test_an_hpack_bomb_ends_its_connection(victim: StartVictim) -> None:
    """4 KiB in the table, named 15 000 times: 60 MB, if it were decoded."""
    here = await victim()
    async with Raw2(here.port) as peer:
        bomb = b"\x40\x01x" + b"\x7f\xa1\x1e" + b"a" * 4000 + b"\xbe" * 15_000
        await peer.send(len(bomb).to_bytes(3, "big") + b"\x01\x04" + (1).to_bytes(4, "big") + bomb)
        peer.h2 = _Deaf()  # type: ignore[assignment]
        await peer.ended()
    assert here.got == []


class _Deaf:
    def receive_data(self, data: bytes) -> list[object]:
        return []


TOO_MUCH = {"x-request-id": "i" * 1025, "traceparent": "ü", "tracestate": "a" + "\x7f"}
JUST_ENOUGH = {"x-request-id": "i" * 1024, "request-id": "a b"}


async def test_values_that_can_not_be_carried_are_left_out(victim: StartVictim) -> None:
    here = await victim()
    async with Raw(here.port) as http1, Raw2(here.port) as http2:
        headers = [*TOO_MUCH.items(), ("request-id", "kept")]
        await http1.send(post(_N, *(f"{name}: {value}" for name, value in headers)) + BODY)
        assert (await http1.answer())[0] == 202
        assert (await http2.post(*headers)).status == 202
        assert (await http2.post(*JUST_ENOUGH.items())).status == 202
        assert (await http2.post(("request-id", "a" * 600), ("request-id", "b" * 600))).status == 202
    assert [delivery.headers for delivery in here.got] == [{"request-id": "kept"}] * 2 + [JUST_ENOUGH, {}]


async def test_values_that_can_not_be_carried_are_left_out_of_batches_too(victim: StartVictim) -> None:
    here = await victim()
    sets = [TOO_MUCH, JUST_ENOUGH, {"request-id": 5}, {"request-id": "a\r\nb"}, {"x-other": "x"}]
    body = b"".join(b"".join(batch.pack(frame(), headers)) for headers in sets)  # type: ignore[arg-type]
    async with Raw2(here.port) as peer:
        answer = await peer.post(("content-type", BATCH), body=body)
    assert (answer.status, json.loads(answer.body)) == (200, [None] * 5)
    assert [delivery.headers for delivery in here.got] == [{}, JUST_ENOUGH, {}, {}, {}]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        struct.pack(">I", 2**32 - 1),
        struct.pack(">I", 17_000) + b"{" + b" " * 16_998 + b"}" + BODY,
        struct.pack(">I", 2) + b"[]" + BODY,
        struct.pack(">I", 5000) + b"[" * 5000 + BODY,
        struct.pack(">I", 2) + b"{}" + struct.pack(">QQQ", 2**64 - 1, 2**64 - 1, 0),
        struct.pack(">I", 2) + b"{}" + BODY[:-1],
        b"".join(batch.pack(frame(), {})) * 65,
    ],
    ids=range(9),
)
async def test_a_broken_batch_is_400(body: bytes, victim: StartVictim) -> None:
    here = await victim()
    async with Raw2(here.port) as peer:
        answer = await peer.post(("content-type", BATCH), body=body)
    assert (answer.status, answer.headers["x-reqplane-refusal"]) == (400, "invalid_frame")
    assert answer.body.decode().strip().isprintable()
    assert here.got == []


async def test_refusals_are_escaped(victim: StartVictim) -> None:
    """Whatever a refusal repeats of a request, a terminal that shows it is not steered by it."""
    here = await victim()
    here.refuse = WorkerBusy("\x1b[31mred\r\nx\0 \u202e")
    async with Raw(here.port) as http1, Raw2(here.port) as http2:
        await http1.send(post() + BODY)
        (_, plain), several = (
            await http1.answer(),
            await http2.post(("content-type", BATCH), body=b"".join(batch.pack(frame(), {}))),
        )
    words = plain.decode().removesuffix("\n")
    assert words.isprintable()
    assert "\\x1b[31mred\\r\\nx\\x00 \\u202e" in words
    assert json.loads(several.body) == [{"code": "busy", "text": words}]


# ── bytes in flight ─────────────────────────────────────────────────────────────────────────────────


async def test_bytes_are_reserved_as_they_come_and_given_back_before_accept(victim: StartVictim) -> None:
    here = await victim()
    at_accept: list[int] = []
    here.on_accept = lambda _: at_accept.append(inflight(here))
    body = frame(b"x" * 10_000).join()
    async with Raw(here.port) as http1, Raw2(here.port) as http2:
        await http1.send(post(len(body)) + body[:3000])
        await until(lambda: inflight(here) == 3000)
        stream = http2.ask()
        http2.h2.send_data(stream, body[:500])
        await http2.flush()
        await until(lambda: inflight(here) == 3500)
        await http1.send(body[3000:])
        assert (await http1.answer())[0] == 202
        http2.h2.send_data(stream, body[500:], end_stream=True)
        assert (await http2.answered(stream)).status == 202
        several = b"".join(b"".join(batch.pack(frame(), {})) for _ in range(5))
        assert (await http2.post(("content-type", BATCH), body=several)).status == 200
    assert at_accept == [500, 0, *[0] * 5]


async def test_a_process_that_holds_enough_is_busy(victim: StartVictim) -> None:
    """And says so on a connection that lives on."""
    here = await victim(max_inflight_bytes=50_000)
    body = frame(b"x" * 10_000).join()
    async with Raw(here.port) as holder, Raw(here.port) as http1, Raw2(here.port) as http2:
        await holder.send(post(60_000) + b"x" * 45_000)
        await until(lambda: inflight(here) == 45_000)
        for _ in range(2):
            await http1.send(post(len(body)) + body)
            status, words = await http1.answer()
            assert (status, b"DYN_MAX_INFLIGHT_BYTES" in words) == (503, True)
            answer = await http2.post(body=body)
            assert (answer.status, answer.headers["x-reqplane-refusal"]) == (503, "busy")
            assert (await http2.post()).status == 202  # a small one has room
        assert inflight(here) == 45_000
        holder.writer.close()
        await until(lambda: inflight(here) == 0)
        assert (await http2.post(body=body)).status == 202
    assert here.bodies() == [b"hello"] * 2 + [b"x" * 10_000]


async def test_a_frame_that_is_alone_may_be_larger(victim: StartVictim) -> None:
    here = await victim(max_inflight_bytes=50_000)
    body = frame(b"x" * 1_000_000).join()
    async with Raw(here.port) as http1, Raw2(here.port) as http2:
        await http1.send(post(len(body)) + body)
        assert (await http1.answer())[0] == 202
        stream = http2.ask()
        for at in range(0, len(body), 16_000):
            await http2.until(lambda: http2.h2.local_flow_control_window(stream) >= 16_000)
            http2.h2.send_data(stream, body[at : at + 16_000])
            await http2.flush()
        http2.h2.end_stream(stream)
        assert (await http2.answered(stream)).status == 202


async def test_what_is_refused_for_its_head_reserves_nothing(victim: StartVictim) -> None:
    here = await victim()
    for head in (
        post(10_000, "content-encoding: gzip"),
        post(10_000, path="/"),
        post(10_000, path="/health"),
        post(10_000).replace(b"POST", b"PUT"),
    ):
        async with Raw(here.port) as peer:
            await peer.send(head + b"x" * 5000)
            await until(lambda: under_way(here.transport) == 1)
            await asyncio.sleep(0.02)
            assert inflight(here) == 0
            await peer.send(b"x" * 5000)
            await peer.answer()
    assert here.got == []


async def test_a_body_in_single_bytes_does_not_grow(victim: StartVictim) -> None:
    here = await victim()
    body = frame(b"x" * 5000).join()
    async with Raw2(here.port) as peer:
        stream = peer.ask()
        for at in range(len(body)):
            peer.h2.send_data(stream, body[at : at + 1])
        peer.h2.end_stream(stream)
        assert (await peer.answered(stream)).status == 202
    assert here.bodies() == [b"x" * 5000]


@pytest.mark.parametrize("seed", range(4))
async def test_no_end_of_a_request_leaves_bytes_reserved(
    seed: int, victim: StartVictim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred requests, each with another end, at once."""
    monkeypatch.setattr(reqplane_http.body, "BODY_SECONDS", 1.0)
    here = await victim(max_frame_bytes=20_000, max_inflight_bytes=60_000)
    numbers = random.Random(seed)

    def fail_at_times(_: Delivery) -> None:
        if numbers.random() < 0.2:
            raise ZeroDivisionError

    here.on_accept = fail_at_times
    ends = [_whole, _gone, _slow, _large, _endless, _junk, _reset]
    await asyncio.gather(*(numbers.choice(ends)(here, numbers.randrange(15_000)) for _ in range(100)))
    await until(lambda: not under_way(here.transport))
    assert inflight(here) == 0
    here.on_accept = None


async def _whole(here: Worker, size: int) -> None:
    async with Raw2(here.port) as peer:
        answer = await peer.post(body=frame(b"x" * size).join())
    assert answer.status in (202, 500, 503, 0)  # 0: too slow, on a busy machine


async def _gone(here: Worker, size: int) -> None:
    async with Raw(here.port) as peer:
        await peer.send(post(20_000) + b"x" * size)
        await asyncio.sleep(0.05)


async def _slow(here: Worker, size: int) -> None:
    async with Raw(here.port) as peer:
        await peer.send(post(20_000) + b"x" * size)
        assert (await peer.rest()).startswith(b"HTTP/1.1 408 ")


async def _large(here: Worker, size: int) -> None:
    async with Raw(here.port) as peer:
        await peer.send(post(21_000 + size) + b"x" * (21_000 + size))
        assert (await peer.answer())[0] in (413, 408)


async def _endless(here: Worker, size: int) -> None:
    async with Raw(here.port) as peer:
        await peer.send(post(10**12) + b"x" * (40_001 + size))
        answer = await peer.rest()
        assert not answer or answer.startswith(b"HTTP/1.1 413 ")  # a reset may overtake it


async def _junk(here: Worker, size: int) -> None:
    async with Raw2(here.port) as peer:
        answer = await peer.post(("content-type", BATCH), body=b"x" * size)
        assert answer.status in (400, 503, 0)


async def _reset(here: Worker, size: int) -> None:
    async with Raw2(here.port) as peer:
        stream = peer.ask()
        peer.h2.send_data(stream, b"x" * size)
        peer.h2.reset_stream(stream)
        await peer.flush()
        assert (await peer.post(path="/health")).status in (200, 0)


# ── logs ────────────────────────────────────────────────────────────────────────────────────────────


async def test_junk_is_logged_without_traceback_and_escaped(
    victim: StartVictim, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    here = await victim()
    for sent in (
        b"\x00\x1b[31m\r\n\r\n",
        b"GET /\x1b[31m HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x1b[31mjunk junk junk",
        b"PRI * HTTP/2.0\r\n\r\n\x1b[31mjunk junk",
    ):
        async with Raw(here.port) as peer:
            await peer.send(sent)
            answer = await peer.rest()
        assert b"Traceback" not in answer
        assert b"\x1b" not in answer
    assert not [record for record in caplog.records if record.exc_info]
    assert all(record.getMessage().isprintable() for record in caplog.records)
