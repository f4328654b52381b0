"""The header of a request frame: JSON that says who asks for what, and where the answer goes.

    {"id": "<request id>", "request_type": "single_in", "response_type": "many_out",
     "payload_codec": "msgpack",                          absent = json
     "endpoint": "ns.component.name",                     ours: checked by accept where present
     "timeout_ms": 1500,                                  ours: what remains of the deadline
     "headers": {"traceparent": "…"},                     ours: only where the plane carries no headers
     "metadata": {"tenant": "x"},                         the application's, texts only; absent if empty
     "connection_info": {"transport": "tcp_server", "info": "<JSON in a string>"}}

    info: {"address": "host:port", "subject": "<uuid>", "context": "<request id>",
           "stream_type": "response",
           "shared": {"v": 1, "process": "<32 hex>", "window": 262144, "max_frame": 33554432}}

The form is Dynamo's, recorded from its wheels, which ignore unknown members on every level; `shared` is
how a shared response connection is offered (reqplane.wire.shared).

A request that is itself a stream has "request_type": "many_in", no body, and beside `connection_info` a
member "request_stream_connection_info" of the same form, whose info has a subject of its own and
"stream_type": "request".  A worker that takes the offer of a shared connection needs only the first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from reqplane.errors import WireError
from reqplane.faster import find_msgspec
from reqplane.model import ConnectionInfo, Headers, SharedOffer
from reqplane.wire.trace import carried

_ID, _SUBJECT = "<<request-id>>", "<<subject>>"
_SINGLE, _STREAM = "single_in", "many_in"
_MAX_TIMEOUT_MS = 2**53

MAX_HEADER_BYTES = 64 * 1024
"""JSON can take a hundred times its bytes in memory, and a header is read before anything is accepted."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request frame's header, decoded.  `timeout` is in seconds, None = no deadline."""

    request_id: str
    connection: ConnectionInfo
    codec: str = "json"
    endpoint: str | None = None
    timeout: float | None = None
    headers: Headers = field(default_factory=dict[str, str])
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


class HeadTemplate:
    """Writes the heads of all requests of one client to workers of one codec.

    Everything but the ids, the deadline and the headers is the same in each, so it is encoded once.
    """

    __slots__ = ("_first", "_offer", "_second", "_third", "address")

    def __init__(self, endpoint: str, codec: str, info: ConnectionInfo) -> None:
        self.address = info.address
        self._offer = info.shared
        head: dict[str, Any] = {"id": _ID, "request_type": _SINGLE, "response_type": "many_out"}
        if codec != "json":
            head["payload_codec"] = codec
        head["endpoint"] = endpoint
        head["connection_info"] = _connection_info(info, _SUBJECT, _ID, "response")
        text = _dump(head)[:-1]
        self._first, rest = text.split(_ID, 1)
        self._second, rest = rest.split(_SUBJECT, 1)
        between, last = rest.split(_ID, 1)
        self._third = (between, last)

    def matches(self, info: ConnectionInfo) -> bool:
        """Whether this template's address and offer are those of `info`."""
        return info.shared is self._offer and info.address == self.address

    def render(
        self,
        info: ConnectionInfo,
        timeout: float | None = None,
        headers: Headers | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> bytes:
        """The header of one request."""
        once, twice = _escaped(info.context)
        between, last = self._third
        tail = ""
        if timeout is not None:
            tail = f',"timeout_ms":{int(min(max(timeout * 1000, 1), _MAX_TIMEOUT_MS))}'
        if headers:
            tail += f',"headers":{_dump(dict(headers))}'
        if metadata:
            tail += f',"metadata":{_dump(dict(metadata))}'
        second = self._second
        if info.request is not None:
            second = second.replace(_SINGLE, _STREAM, 1)
            tail += _request_member(info.request)
        text = f"{self._first}{once}{second}{info.subject}{between}{twice}{last}{tail}}}"
        return text.encode()


def _request_member(info: ConnectionInfo) -> str:
    """What the head of a request has in addition that is a stream."""
    members = _connection_info(info, info.subject, info.context, "request")
    return f',"request_stream_connection_info":{_dump(members)}'


def _escaped(request_id: str) -> tuple[str, str]:
    """The id as it stands within a JSON string, and within JSON in a JSON string."""
    if request_id.isascii() and request_id.isprintable() and '"' not in request_id and "\\" not in request_id:
        return request_id, request_id
    once = json.dumps(request_id)[1:-1]
    return once, json.dumps(once)[1:-1]


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _connection_info(info: ConnectionInfo, subject: str, context: str, stream_type: str) -> dict[str, str]:
    members: dict[str, Any] = {
        "address": info.address,
        "subject": subject,
        "context": context,
        "stream_type": stream_type,
    }
    if info.shared is not None:
        offer = info.shared
        members["shared"] = {"v": offer.version, "process": offer.process, "window": offer.window}
        if offer.max_frame is not None:
            members["shared"]["max_frame"] = offer.max_frame
    return {"transport": "tcp_server", "info": _dump(members)}


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────


def decode_head(header: bytes) -> RequestHead:
    """Read a request frame's header; WireError says what was wanted and what was found."""
    if len(header) > MAX_HEADER_BYTES:
        raise WireError(
            f"the request's header has {len(header)} bytes, at most {MAX_HEADER_BYTES} are allowed"
        )
    members = _object(header, "the request's header")
    timeout_ms = members.get("timeout_ms")
    if timeout_ms is not None:
        number = isinstance(timeout_ms, int) and not isinstance(timeout_ms, bool)
        if not number or not 0 <= timeout_ms <= _MAX_TIMEOUT_MS:
            raise WireError(f"timeout_ms is {timeout_ms!r:.60}, wanted a whole number of milliseconds")
    headers = members.get("headers", {})
    if not isinstance(headers, dict):
        raise WireError(f"headers are {headers!r:.60}, wanted an object")
    endpoint = members.get("endpoint")
    return RequestHead(
        request_id=_text(members, "id"),
        connection=_connection(members.get("connection_info"), "connection_info", _request_info(members)),
        codec=_text(members, "payload_codec", "json"),
        endpoint=None if endpoint is None else _text(members, "endpoint"),
        timeout=None if timeout_ms is None else timeout_ms / 1000,
        headers=carried(cast("Mapping[str, Any]", headers)),
        metadata=_metadata(members.get("metadata")),
    )


def _request_info(members: Mapping[str, Any]) -> ConnectionInfo | None:
    """Where a request comes from that is a stream; None for a single one."""
    stream = members.get("request_stream_connection_info")
    if stream is not None:
        return _connection(stream, "request_stream_connection_info")
    if members.get("request_type") == _STREAM:
        raise WireError(f"request_stream_connection_info is missing, which a {_STREAM} request needs")
    return None


def _connection(value: Any, name: str, request: ConnectionInfo | None = None) -> ConnectionInfo:
    if not isinstance(value, dict):
        raise WireError(f"{name} is {value!r:.60}, wanted an object")
    info = _object(_text(cast("dict[str, Any]", value), "info"), f"{name}.info")
    return ConnectionInfo(
        address=_text(info, "address"),
        subject=_text(info, "subject"),
        context=_text(info, "context", ""),
        shared=_offer(info.get("shared")),
        request=request,
    )


def _metadata(value: Any) -> Mapping[str, str]:
    if value is None:
        return {}
    texts = isinstance(value, dict) and all(isinstance(text, str) for text in cast("Any", value).values())
    if not texts:
        raise WireError(f"metadata is {value!r:.60}, wanted an object whose values are strings")
    return cast("dict[str, str]", value)


def _offer(value: Any) -> SharedOffer | None:
    """An offer of a version that we don't know is no offer."""
    if not isinstance(value, dict):
        return None
    members = cast("dict[str, Any]", value)
    process, window = members.get("process"), members.get("window")
    if members.get("v") != 1 or not isinstance(process, str) or not isinstance(window, int) or window < 1:
        return None
    largest = members.get("max_frame")
    return SharedOffer(process, window, max_frame=largest if type(largest) is int and largest > 0 else None)


def _find_quick_loads() -> Callable[[bytes | str], Any] | None:
    msgspec = find_msgspec()
    return None if msgspec is None else msgspec.json.Decoder().decode


_quick_loads = _find_quick_loads()


def _loads(text: bytes | str) -> object:
    """json.loads, which has the last word on what msgspec gives up on, such as half a surrogate pair."""
    if _quick_loads is not None:
        try:
            return _quick_loads(text)
        except Exception:
            pass
    return json.loads(text)


def _object(text: bytes | str, what: str) -> dict[str, Any]:
    try:
        value = _loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError(f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise WireError(f"{what} is {value!r:.60}, wanted an object")
    return cast("dict[str, Any]", value)


def _text(members: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = members.get(name, default)
    if not isinstance(value, str):
        found = "is missing" if value is None else f"is {value!r:.60}"
        raise WireError(f"{name} {found}, wanted a string")
    return value
