"""Discovery records: the key and the value by which a worker is found.

    the guide  v1/instances/namespace.{ns}.component.{comp}.endpoint.{ep}.instance.{number}
               {"transport": {"http_tcp": {…}}, …}
    Dynamo     v1/instances/{ns}/{comp}/{ep}/{number in hex}
               {"type": "Endpoint", "transport": {"tcp": "…"}, "instance_id": …, …}

We write the guide's form, or Dynamo's where DYN_WIRE_PROFILE asks for it, and read both.  Reading is
liberal: what the value lacks is taken from the key, null counts as absent, and members that nobody knows are
ignored.  But what is there must have its type and must not contradict the key; otherwise WireError says what
was wanted and what was found.

The forms are recorded from Dynamo's wheels.  It reads a record only if `transport` has exactly one member and
it knows that; other members of the record it ignores.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar, cast
from urllib.parse import unquote

from reqplane.errors import WireError
from reqplane.model import EndpointId, Instance

PREFIX = "v1/instances/"
"""What every record's key starts with."""
MAX_RECORD_BYTES = 64 * 1024
"""A larger value is not parsed."""

_DEEPEST = 16
"""How deep objects and lists may be nested in a record.  Ours are three deep."""

Default = TypeVar("Default", int, None)

_U64 = 2**64 - 1
_GUIDE_NAME = re.compile(
    r"namespace\.([^./]+)\.component\.([^./]+)\.endpoint\.([^./]+)\.instance\.(0|[1-9][0-9]{0,19})"
)
_DYNAMO_NAME = re.compile(r"([^/]+)/([^/]+)/([^/]+)/([0-9a-f]{1,16})")
_LAYOUTS = (
    "namespace.{ns}.component.{comp}.endpoint.{ep}.instance.{number} or {ns}/{comp}/{ep}/{number in hex}"
)
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]{0,63}")
_FAR_FUTURE = 1e11
"""Seconds since 1970: some thousand years from now."""
DYNAMO_TRANSPORTS = ("tcp", "nats_tcp", "http")
"""What Dynamo has in `transport`, each a text: `host:port/path`, a NATS subject, or a URL.  Only 0.7 to 0.9
know `http`."""
_DYNAMOS_CODECS = ("json", "msgpack")
_PLANE_OF = {"http_tcp": "http", "nats_tcp": "nats"}
"""The planes whose member of `transport` has another name than they."""


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────


def instance_name(endpoint: EndpointId, instance_id: int) -> str:
    """The last part of the guide's key; the guide's URLs end with it too."""
    return (
        f"namespace.{endpoint.namespace}.component.{endpoint.component}"
        f".endpoint.{endpoint.name}.instance.{instance_id}"
    )


def guide_key(endpoint: EndpointId, instance_id: int) -> str:
    """Where the guide puts a worker's record."""
    return PREFIX + instance_name(endpoint, instance_id)


def dynamo_name(endpoint: EndpointId, instance_id: int) -> str:
    """The last part of Dynamo's key."""
    return f"{endpoint.namespace}/{endpoint.component}/{endpoint.name}/{instance_id:x}"


def dynamo_key(endpoint: EndpointId, instance_id: int) -> str:
    """Where Dynamo puts a worker's record."""
    return PREFIX + dynamo_name(endpoint, instance_id)


def record_key(endpoint: EndpointId, instance_id: int, *, dynamo: bool) -> str:
    """Where this process puts a worker's record, which `interfaces.Host.dynamo` says."""
    return dynamo_key(endpoint, instance_id) if dynamo else guide_key(endpoint, instance_id)


def dynamo_file(endpoint: EndpointId, instance_id: int) -> str:
    """What the file that holds Dynamo's record is called: all but letters and digits is encoded."""
    name = dynamo_name(endpoint, instance_id)
    return "".join(one if one.isalnum() else f"%{ord(one):02X}" for one in name)


def make_record(
    endpoint: EndpointId,
    instance_id: int,
    incarnation: int,
    transports: Mapping[str, Any],
    codec: str,
    planes: Sequence[str],
    capacity: int | None = None,
    *,
    version: str | None = None,
    started: float | None = None,
) -> dict[str, Any]:
    """The guide's record.  `transports` are the members of all `planes`, merged; `version` is that of the
    worker's reqplane, `started` when it began to serve, in seconds since 1970."""
    record: dict[str, Any] = {
        "namespace": endpoint.namespace,
        "component": endpoint.component,
        "endpoint": endpoint.name,
        "instance_id": instance_id,
        "incarnation": incarnation,
        "transport": dict(transports),
        "planes": list(planes),
        "request_plane_codec": codec,
        "reqplane": 1,
    }
    optional = {"capacity": capacity, "version": version, "started": started}
    record.update({name: value for name, value in optional.items() if value is not None})
    return record


def as_dynamo(record: Mapping[str, Any]) -> dict[str, Any]:
    """The guide's record in the form in which Dynamo finds the worker; WireError if it can't.

    All planes stand in `transports`, which Dynamo ignores.
    """
    members = dict(record)
    codec, transports = members.pop("request_plane_codec"), members.pop("transport")
    shown = next((key for key in transports if key in DYNAMO_TRANSPORTS), None)
    if shown is None:
        raise WireError(
            f"Dynamo knows none of this worker's planes, {', '.join(record['planes'])}; wanted tcp or nats, "
            f"or http for Dynamo 0.7 to 0.9"
        )
    if codec not in _DYNAMOS_CODECS:
        raise WireError(f"Dynamo knows no codec {codec!r}; wanted {' or '.join(_DYNAMOS_CODECS)}")
    return {
        "type": "Endpoint",
        **{name: members.pop(name) for name in ("component", "endpoint", "namespace", "instance_id")},
        "transport": {shown: transports[shown]},
        "request_plane_codec": codec,
        "transports": transports,
        **members,
    }


def leaving(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a worker that takes nothing new: what tells a leave in order from a lost lease."""
    return {**record, "draining": True}


def encode_record(record: Mapping[str, Any]) -> bytes:
    """The record as it is stored; WireError if it is not JSON or so large that nobody would read it."""
    try:
        content = json.dumps(dict(record), allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(f"the record can't be written as JSON: {error}") from error
    if len(content) > MAX_RECORD_BYTES:
        raise WireError(f"the record has {len(content)} bytes, at most {MAX_RECORD_BYTES} are allowed")
    return content


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────


def parse_key(key: str) -> tuple[EndpointId, int]:
    """Which worker a key names; either layout, percent-encoded or not."""
    if not key.startswith(PREFIX):
        _complain("the key of a record", f"{PREFIX}…", key)
    name = unquote(key.removeprefix(PREFIX))
    if guide := _GUIDE_NAME.fullmatch(name):
        *parts, number = guide.groups()
        instance_id = int(number)
    elif dynamo := _DYNAMO_NAME.fullmatch(name):
        *parts, number = dynamo.groups()
        instance_id = int(number, 16)
    else:
        _complain(f"after {PREFIX} in the key", _LAYOUTS, name)
    if instance_id > _U64:
        _complain(f"as instance number in the key {_shown(key)}", f"at most {_U64}", instance_id)
    try:
        return EndpointId(*parts), instance_id
    except ValueError as error:
        raise WireError(f"the key {_shown(key)}: {error}") from error


def parse_record(key: str, value: bytes | str | Mapping[str, Any]) -> Instance:
    """The worker that a record tells of; WireError if its key or value breaks the rules."""
    endpoint, instance_id = parse_key(key)
    try:
        record = _load(value)
        _check_identity(record, endpoint, instance_id)
        transport = _transport(record)
        return Instance(
            endpoint=endpoint,
            instance_id=instance_id,
            # Dynamo's number is a lease id, so it does for an incarnation; the guide's bare value has
            # nothing better.
            incarnation=_number(record, "incarnation", instance_id),
            transport=transport,
            codec=_text(record, "request_plane_codec", "json"),
            planes=_planes(record, transport),
            capacity=_number(record, "capacity", None),
            version=_version(record),
            started=_started(record),
            draining=record.get("draining") is True,
            dynamo=record.get("type") is not None and record.get("reqplane") is None,
            device_type=_device_type(record),
        )
    except WireError as error:
        raise WireError(f"the record {_shown(key)}: {error}") from error


def _load(value: object) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return cast(Mapping[str, Any], value)
    if not isinstance(value, bytes | str):
        _complain("", "JSON", value)
    if len(value) > MAX_RECORD_BYTES:
        raise WireError(f"wanted at most {MAX_RECORD_BYTES} bytes, found {len(value)}")
    try:
        text = value if isinstance(value, str) else value.decode()
        loaded: object = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise WireError(f"wanted JSON, found something else: {error}") from error
    if not _is_flat(loaded, _DEEPEST):
        raise WireError(f"wanted JSON nested at most {_DEEPEST} deep")
    return _object(loaded, "")


def _is_flat(value: object, most: int) -> bool:
    """Whether whoever walks through it by recursion comes back: plugins do, and who writes it as JSON."""
    if isinstance(value, Mapping):
        inner = cast(Mapping[object, object], value).values()
    elif isinstance(value, list):
        inner = cast(list[object], value)
    else:
        return True
    return most > 0 and all(_is_flat(one, most - 1) for one in inner)


def _refuse_constant(name: str) -> NoReturn:
    """Python reads NaN and Infinity; JSON has neither."""
    raise ValueError(f"{name} stands in it")


def _finite(text: str) -> float:
    """Python reads 1e999 as infinity, which could not be written again."""
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number in it is too large")
    return value


def _check_identity(record: Mapping[str, Any], endpoint: EndpointId, instance_id: int) -> None:
    kind = _text(record, "type", "Endpoint")
    if kind != "Endpoint":
        _complain("as 'type'", "'Endpoint'", kind)
    for member, from_key in (
        ("namespace", endpoint.namespace),
        ("component", endpoint.component),
        ("endpoint", endpoint.name),
    ):
        if (found := _text(record, member, from_key)) != from_key:
            _complain(f"as {member!r}", f"{from_key!r} as in the key", found)
    if (number := _number(record, "instance_id", instance_id)) != instance_id:
        _complain("as 'instance_id'", f"{instance_id} as in the key", number)


def _transport(record: Mapping[str, Any]) -> dict[str, Any]:
    """How each plane reaches the worker; see `as_dynamo` for `transports`."""
    transport = dict(_object(record.get("transport"), "'transport'"))
    if record.get("transports") is not None:
        transport.update(_object(record["transports"], "'transports'"))
    return transport


def _planes(record: Mapping[str, Any], transport: Mapping[str, Any]) -> tuple[str, ...]:
    planes = record.get("planes")
    if planes is None:
        return tuple(dict.fromkeys(_PLANE_OF.get(key, key) for key in transport))
    if not isinstance(planes, list | tuple):
        _complain("as 'planes'", "a list of names", planes)
    for plane in cast(Sequence[object], planes):
        if not isinstance(plane, str) or not plane:
            _complain("in 'planes'", "names", plane)
    return tuple(cast(Sequence[str], planes))


def _device_type(record: Mapping[str, Any]) -> str | None:
    """Dynamo's, and only handed on."""
    found = record.get("device_type")
    return found if isinstance(found, str) else None


def _version(record: Mapping[str, Any]) -> str | None:
    """Only to be shown and compared, so what is no version harms nobody and counts as absent."""
    found = record.get("version")
    return found if isinstance(found, str) and _VERSION.fullmatch(found) else None


def _started(record: Mapping[str, Any]) -> float | None:
    """Likewise only to be shown."""
    found = record.get("started")
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 <= found < _FAR_FUTURE:
        return None
    return float(found)


# ── members by type ─────────────────────────────────────────────────────────────────────────────────


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        _complain(where, "an object", value)
    for name in cast(Mapping[object, object], value):
        if not isinstance(name, str):
            _complain(where, "an object whose members have names", name)
    return cast(Mapping[str, Any], value)


def _text(record: Mapping[str, Any], member: str, default: str) -> str:
    value = record.get(member)
    if value is None:
        return default
    if not isinstance(value, str) or not value:
        _complain(f"as {member!r}", "a text", value)
    return value


def _number(record: Mapping[str, Any], member: str, default: Default) -> int | Default:
    value = record.get(member)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _U64:
        _complain(f"as {member!r}", f"a whole number from 0 to {_U64}", value)
    return value


def _complain(where: str, wanted: str, found: object) -> NoReturn:
    place = f"{where} " if where else ""
    raise WireError(f"{place}wanted {wanted}, found {_shown(found)}")


def _shown(value: object) -> str:
    """A value in a few words.  Junk may be enormous, and `repr` refuses numbers of 4300 digits."""
    match value:
        case None:
            return "nothing"
        case bool() | float():
            return json.dumps(value)
        case int():
            return str(value) if abs(value) <= 10 * _U64 else f"a number of {value.bit_length()} bits"
        case str():
            return repr(value if len(value) <= 300 else value[:300] + "…")
        case Mapping():
            return "an object"
        case list() | tuple():
            return "a list"
        case _:
            return f"a {type(value).__name__}"
