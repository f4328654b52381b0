"""h2's protocol machine, fitted to a client that sends many short requests on one connection."""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event
from h2.settings import SettingCodes, Settings
from h2.stream import StreamClosedBy
from hyperframe.frame import Frame, GoAwayFrame, SettingsFrame

from reqplane_http.blocks import BlockEncoder

_TYPE = 3  # where a frame's type stands
_CONFIG = H2Configuration(
    client_side=True,
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
)


class Engine(H2Connection):
    """An H2Connection that leaves to its user what the user knows better, and forgets closed streams."""

    def __init__(self) -> None:
        super().__init__(_CONFIG)
        self.encoder = self.blocks = BlockEncoder()
        self.local_settings = Settings(client=True, initial_values={SettingCodes.ENABLE_PUSH: 0})

    @property
    def open_outbound_streams(self) -> int:
        """0: the connection counts its streams itself; h2 would walk through all of them at each request."""
        return 0

    def post(self, stream_id: int, method: bytes, block: bytes, ends: bool) -> None:
        """Open a stream with a header block that is encoded already."""
        self.blocks.block = block
        self.send_headers(stream_id, [(b":method", method)], end_stream=ends)

    def forget(self, stream_id: int) -> None:
        self.streams.pop(stream_id, None)

    def _stream_closed_by(self, stream_id: int) -> StreamClosedBy | None:
        # What still comes for a stream that was forgotten is answered by a reset of that stream.  h2
        # would end the connection, and with it every other request, once it can't remember why it closed.
        stream = self.streams.get(stream_id)
        return stream.closed_by if stream is not None else StreamClosedBy.SEND_RST_STREAM

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        # h2 takes GOAWAY as the end; by RFC 9113 §6.8 the streams up to last_stream_id go on.
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        event.additional_data = frame.additional_data or None
        return [], [event]


class Greeting:
    """The first bytes of a peer: a SETTINGS frame, or it does not speak HTTP/2.

    A peer that does not has answered our preface, not our requests: those were surely not accepted.
    """

    def __init__(self) -> None:
        self._bytes = b""
        self.over = False

    def feed(self, data: bytes) -> bool:
        """False: this is not HTTP/2."""
        self._bytes += data
        if self._bytes.startswith(b"HTTP"):  # what follows is needed to tell what it is
            self.over = len(self._bytes) > len(b"HTTP/1.")
            return not self.over
        self.over = len(self._bytes) > _TYPE
        return not self.over or self._bytes[_TYPE] == SettingsFrame.type

    @property
    def is_http1(self) -> bool:
        """Whether it answered as a server that knows HTTP/1.1 only does, as nginx without `http2`."""
        return self.line.startswith("HTTP/1.")

    @property
    def line(self) -> str:
        """What it said instead."""
        return self._bytes.split(b"\r\n", 1)[0][:80].decode("latin-1")
