"""What travels on a connection: a request, then the answer.  Two functions are to be filled in."""

from __future__ import annotations

from asyncio import StreamReader, StreamWriter
from typing import TYPE_CHECKING

from reqplane.model import Headers
from reqplane.wire.frame import Frame

if TYPE_CHECKING:
    from reqplane_yours.worker import Incoming

MOST = 2**20
"""Bytes that everything but the frame may have."""


async def ask(
    reader: StreamReader, writer: StreamWriter, endpoint: str, frame: Frame, headers: Headers
) -> None:
    """At the frontend, on a new connection: send one frame, and return when the worker has accepted it.

    Raises what `reqplane.errors.refusal` makes of a refusal; what the connection raises may come out.
    """
    raise NotImplementedError(  # FILL IN, 1 of 2
        "ask() in wire.py: write the endpoint, the frame's length and frame.buffers, then read the answer"
    )


async def serve(incoming: Incoming) -> None:
    """At the worker, on each connection: read one frame, hand it over, and only then answer.

    `read_frame` and `accept` of `incoming` raise RequestRefused, with the `code` and the `problem` of it.
    """
    raise NotImplementedError(  # FILL IN, 2 of 2
        "serve() in wire.py: read what ask() wrote, the frame by incoming.read_frame(size), call "
        "incoming.accept(endpoint, frame, headers), then write the answer"
    )
