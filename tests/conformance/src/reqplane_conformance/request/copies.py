"""What was accepted, copied: a transport may use its buffers again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from reqplane.model import Body
from reqplane.wire.frame import Frame


def bytes_of(frame: Body | Frame) -> bytes:
    return frame.join() if isinstance(frame, Frame) else bytes(frame)


def texts_of(headers: object) -> dict[str, str]:
    """The headers that came; whether they are a mapping at all is for one case to say."""
    return dict(cast(Mapping[str, str], headers)) if isinstance(headers, Mapping) else {}
