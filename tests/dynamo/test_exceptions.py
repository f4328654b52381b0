"""Exceptions travel and arrive as Dynamo's do."""

from __future__ import annotations

from typing import Any

import pytest
from golden_frames import recorded_failures
from reqplane import errors
from reqplane.dynamo import exceptions
from reqplane.dynamo.exceptions import HttpError, InvalidArgument, before_the_stream, in_the_stream
from reqplane.wire.failure import error_fields, error_from

TEXT = "text of it"
RECORDED = recorded_failures()


def name_of(row: dict[str, Any]) -> str:
    return f"{row['exception']} {row.get('code', '')}".strip()


def raised(row: dict[str, Any]) -> Exception | None:
    """The exception that was raised for this row, if it is one of Dynamo's."""
    cls = getattr(exceptions, row["exception"], None)
    if cls is None:
        return None
    return HttpError(row["code"], "nope") if cls is HttpError else cls(TEXT)


@pytest.mark.parametrize("row", [row for row in RECORDED if raised(row) is not None], ids=name_of)
def test_dynamos_exceptions_are_written_as_recorded(row: dict[str, Any]) -> None:
    error = raised(row)
    assert error is not None
    assert error_fields(error)["error"] == row["error"]


@pytest.mark.parametrize("row", RECORDED, ids=name_of)
def test_what_was_recorded_is_what_a_caller_gets(row: dict[str, Any]) -> None:
    """As Dynamo's client raised it: tests/dynamo/programs/errors.expected has its words for many of them."""
    error = error_from({"event": "error", "error": row["error"]}, 0)
    got = in_the_stream(error)
    if row["exception"] == "InvalidArgument":
        assert type(got) is InvalidArgument
        assert str(got) == TEXT
    else:
        assert type(got) is ValueError
        assert str(got) == f"{row['error']['class']}: {row['error']['message']}"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"comment": ["old", "second"]}, "Internal: old, second"),
        ({"error": {"message": "only this"}}, "Internal: only this"),
        ({"error": None, "comment": ["beside"]}, "Internal: beside"),
        ({"error": {"class": "Cancelled", "message": "m", "diagnostic": "d"}}, "Cancelled: d"),
        ({}, "Internal: the worker did not say why"),
    ],
)
def test_other_forms_of_error_items(fields: dict[str, Any], text: str) -> None:
    """The first four as Dynamo 1.6.1 raised them for the same items."""
    got = in_the_stream(error_from({"event": "error", **fields}, 0))
    assert type(got) is ValueError
    assert str(got) == text


NOBODY = errors.NoInstances(endpoint="a.b.c", planes=["tcp"])
UNKNOWN = errors.NoInstances(endpoint="a.b.c", planes=["tcp"], wanted=77, present=[1])
CLOSED = errors.CannotConnect("refused", address="10.0.0.1:9", transport="tcp")
FROZEN = errors.DeliveryUnknown("timed_out", "no ack", address="10.0.0.1:9", transport="tcp")
LARGE = errors.FrameTooLarge(40_000_000, 33_554_432, transport="tcp")
TOO_LARGE = (
    "InvalidRequest: Request payload is too large for this deployment. "
    "Reduce the input size or metadata size and retry."
)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NOBODY, "Unavailable: No workers available for endpoint a/b/c"),
        (UNKNOWN, "Unavailable: instance_id=77 not found for endpoint a/b/c"),
        (CLOSED, "Unavailable: TCP connection to 10.0.0.1:9 failed"),
        (FROZEN, "DeadlineExceeded: TCP request to 10.0.0.1:9 timed out"),
        (LARGE, TOO_LARGE),
        (errors.HandlerFailed("Generate Error: no"), None),
        (errors.DeadlineExceeded("the ack"), None),
        (errors.UnknownEndpoint("no such endpoint"), "Unavailable: no such endpoint"),
        (errors.DiscoveryUnavailable("etcd is away"), "Unavailable: etcd is away"),
    ],
)
def test_a_call_that_fails_before_its_stream(error: errors.ReqplaneError, text: str | None) -> None:
    """The first five in the words of Dynamo 1.6.1."""
    got = before_the_stream(error)
    assert type(got) is Exception
    assert str(got) == (text or str(got))
    assert str(got).split(":")[0] in ("Unavailable", "DeadlineExceeded", "InvalidRequest")


def test_a_request_that_can_not_be_encoded_is_a_type_error() -> None:
    assert type(before_the_stream(errors.PayloadError("a set"))) is TypeError


def test_a_handler_that_could_not_be_started() -> None:
    got = in_the_stream(errors.HandlerFailed("Generate Error: TypeError: no"))
    assert type(got) is Exception
    assert str(got) == (
        "Unavailable: Worker generate() failed before response stream: Generate Error: TypeError: no"
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.StreamBroken("gone"), "Unavailable: Stream ended before generation completed"),
        (errors.DeadlineExceeded("the rest of the answer"), "DeadlineExceeded: "),
        (errors.PayloadError("a set", index=3), "Internal: item 3 of the answer"),
    ],
)
def test_an_answer_that_does_not_come_whole(error: errors.ReqplaneError, text: str) -> None:
    got = in_the_stream(error)
    assert type(got) is ValueError
    assert str(got).startswith(text)


def test_a_long_message_of_an_http_error_is_cut() -> None:
    error = HttpError(500, "x" * 10_000)
    assert len(error.message) == 8192
    assert error.message.endswith("x...")
