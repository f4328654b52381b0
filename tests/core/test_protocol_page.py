"""What docs/protocol.md says of numbers and names is what the code has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import reqplane_http.answers
import reqplane_http.batch
import reqplane_nats.answers
import reqplane_tcp.answers
from reqplane.errors import refusal
from reqplane.model import ConnectionInfo, EndpointId, Load, SharedOffer
from reqplane.wire import shared, trace
from reqplane.wire.frame import split
from reqplane.wire.records import guide_key, make_record
from reqplane.wire.request import HeadTemplate
from reqplane.wire.response import SENTINEL

PAGE = (Path(__file__).parent.parent.parent / "docs" / "protocol.md").read_text()


def rows(first_cell: str) -> list[list[str]]:
    """The table whose head begins with this cell."""
    _, _, rest = PAGE.partition(f"| {first_cell} |")
    lines = rest.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_kinds_of_frames():
    told = {name: int(number) for number, name, _ in rows("kind")}
    assert told == {name: getattr(shared, name) for name in told}
    assert len(told) == shared.BYE


def test_the_codes_of_refusals():
    told = {code.strip("`"): (int(status), elsewhere == "yes") for code, status, _, elsewhere in rows("code")}
    assert {code: status for code, (status, _) in told.items()} == reqplane_http.answers.STATUS_OF_CODE
    assert {code: elsewhere for code, (_, elsewhere) in told.items()} == {
        code: refusal(code, "").retry_elsewhere for code in told
    }
    for code, status in reqplane_nats.answers._CODES.items():
        assert told[code][0] == status


def test_the_members_of_a_requests_head():
    offer = SharedOffer("0" * 32, 262144, max_frame=33554432)
    request = ConnectionInfo("127.0.0.1:9000", "7" * 8 + "-1111-4111-a111-" + "1" * 12, "id")
    info = ConnectionInfo("127.0.0.1:9000", "6" * 8 + "-1111-4111-a111-" + "1" * 12, "id", offer, request)
    header = HeadTemplate("a.b.c", "msgpack", info).render(info, 1.0, {"x-request-id": "me"}, {"tenant": "x"})
    head = json.loads(header)
    assert set(head) == {name.strip("`") for name, _ in rows("member")}
    members = json.loads(head["connection_info"]["info"])
    assert all(f"`{name}`" in PAGE for name in members)
    assert json.dumps({**members["shared"], "process": "32 hex"}) in PAGE


def test_the_opening_of_a_shared_connection():
    header, _ = split(shared.opening("p", 7, 33554432), shared.OPENING_LIMIT)
    members = json.loads(header)
    assert json.dumps({**members, "process": "…", "worker": "INCARNATION"}, ensure_ascii=False) in PAGE


@pytest.mark.parametrize("name", [*trace.CARRIED, trace.REFUSAL, trace.INSTANCE])
def test_the_headers(name: str):
    assert re.search(rf"`{name}[`:]", PAGE)


def test_the_batch():
    assert reqplane_http.batch.CONTENT_TYPE in PAGE
    assert f"at most {reqplane_http.batch.MOST_FRAMES} frames" in PAGE
    assert f"{reqplane_http.batch.MOST_BYTES // 1024} KiB" in PAGE


def test_the_tcp_plane():
    text = PAGE.partition("### tcp")[2].partition("\n## ")[0]
    assert f"`{reqplane_tcp.answers.GOODBYE.decode()}`" in " ".join(text.split())
    for code in ("busy", "draining"):
        told = reqplane_tcp.answers.refused(code, "TEXT")[4:].decode()
        assert f"`{told.replace('[draining]', '[CODE]')}`" in text


def test_the_record():
    endpoint = EndpointId("ns", "comp", "ep")
    key = guide_key(endpoint, 7)
    for part in ("ns", "comp", "ep"):
        key = key.replace(f".{part}.", f".{{{part}}}.")
    assert key.replace(".7", ".{id}") in PAGE
    record = make_record(endpoint, 0, 1, {}, "json", ["http"], 8, version="1", started=1.0)
    assert all(f"`{name}`" in PAGE for name in record)


def test_the_load_report():
    members = json.loads(shared.load_body(Load(1, 2, 3, "a.b.c")))
    assert all(f"`{name}`" in PAGE for name in members)


def test_the_sentinel():
    assert f"`{SENTINEL.decode()}`" in PAGE
