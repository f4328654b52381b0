"""What an answer means, in both directions.

The empty answer accepts.  A refusal of ours is `Server overloaded: WORDS [CODE]` or, for all other codes,
`Server unavailable: WORDS [CODE]`.  Dynamo's clients (1.6.1, tried) know a refusal by these beginnings alone,
and wait for ever for what a worker yields that refused in other words.  They take either for "ask another
worker".  Those before (0.7.1 and 0.9.1, tried) take every text for an ack.

    Server unavailable: unknown endpoint PATH                Dynamo 1.6
    Server overloaded: worker at capacity                    Dynamo 1.6
    Server unavailable: worker pool channel closed           Dynamo 1.6
    Unknown endpoint: PATH                                   Dynamo 0.7 to 0.9
    Read error: message too large: N bytes (max: M bytes)    Dynamo 0.9 to 1.6, then it closes
    Request too large                                        Dynamo 0.7, then it closes

Any other text is a refusal too.
"""

from __future__ import annotations

import re

from reqplane.errors import FrameTooLarge, RequestError, RequestRefused, refusal

from reqplane_tcp.wire import answer

_OVERLOADED = "Server overloaded: "
_UNAVAILABLE = "Server unavailable: "
_OURS = re.compile(r"Server (?:overloaded|unavailable): (.*) \[([a-z0-9_]{1,64})\]", re.DOTALL)
_DYNAMOS = (
    ("Server unavailable: unknown endpoint", "unknown_endpoint"),
    ("Unknown endpoint:", "unknown_endpoint"),
    ("Server overloaded:", "busy"),
    ("Server unavailable:", "draining"),
)
_TOO_LARGE = re.compile(r"(?:Read error: message|Request) too large(?:.*max: (\d{1,20}) bytes)?")
_MOST_WORDS = 1000
MOST_ANSWER = 16 * 1024
"""Bytes of an answer that is read."""

GOODBYE = f"{_UNAVAILABLE}this connection ends, and no other request on it is looked at [goodbye]".encode()
"""What a worker that leaves says as its last.  All requests without an answer were surely not accepted."""


def refused(code: str, words: str) -> bytes:
    """The answer that says no."""
    beginning = _OVERLOADED if code == "busy" else _UNAVAILABLE
    return answer(f"{beginning}{words[:_MOST_WORDS]} [{code}]".encode("utf-8", "replace"))


def words_of(error: RequestRefused) -> str:
    """What goes into the answer: what the error's class does not say by itself."""
    return error.summary() if error.code == "invalid_frame" else error.problem


def verdict(text: bytes, frame_bytes: int, address: str) -> RequestError:
    """The error that an answer stands for which does not accept."""
    shown = text.decode("utf-8", "replace")
    ours = _OURS.fullmatch(shown)
    if ours is not None:
        words, code = ours.groups()
        # The class puts its own words in front of the problem; an invalid frame's are there already.
        problem = words.removeprefix(refusal(code, "").summary())
        return refusal(code, problem, transport="tcp", address=address)
    too_large = _TOO_LARGE.match(shown)
    if too_large is not None:
        most = int(too_large[1]) if too_large[1] else None
        why = f"{address} answered: {shown[:_MOST_WORDS]} (DYN_TCP_MAX_MESSAGE_SIZE there)"
        return FrameTooLarge(frame_bytes, most, why, transport="tcp", address=address)
    code = next((code for beginning, code in _DYNAMOS if shown.startswith(beginning)), "refused")
    return refusal(code, shown[:_MOST_WORDS], transport="tcp", address=address)
