"""How long a frame's ack may take."""

from __future__ import annotations


class AckLimit:
    """DYN_HTTP_REQUEST_TIMEOUT, or a call's deadline where that is earlier."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._within = f"within {seconds:g} s (DYN_HTTP_REQUEST_TIMEOUT)"
        self._before = f"before the call's deadline (DYN_HTTP_REQUEST_TIMEOUT is {seconds:g} s)"

    def until(self, now: float, deadline: float) -> tuple[float, str]:
        """The moment when the time is up, and the words for it."""
        until = now + self.seconds
        return (deadline, self._before) if deadline < until else (until, self._within)

    @property
    def passed(self) -> str:
        """The words for a deadline that is over already."""
        return f"{self._before}, which had passed before the frame was sent"
