"""Connections with bounds that uvicorn leaves out: on heads, on silence, on slow readers.

uvicorn's own protocols do the parsing; these subclasses count octets and set timers.

- A head (request line and header fields) has a size, a number of fields and a time.
- A body that goes on after its response (the request was refused) is read for a moment
  longer, so that the client gets to read the response, and then cut off.
- A client that takes nothing of what was written for it is cut off.
- A WebSocket handshake has a time.
"""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

HEAD_BYTES_MAX = 32_768
FIELDS_MAX = 100  # the WebSocket parser takes 128
LINE_BYTES_MAX = 8_000  # the WebSocket parser takes 8192; RFC 9110 §4.1 asks for 8000 in a URI
HEAD_TIMEOUT_S = 20.0
LINGER_S = 5.0
STALL_TIMEOUT_S = 60.0  # without the client taking an octet of a full buffer
HANDSHAKE_TIMEOUT_S = 60.0  # longer than any sign-in is delayed


class HeadTooLarge(Exception):
    """The request's head exceeds a bound; httptools makes a parser error of it: 400."""


class StallBound(asyncio.Protocol):
    """A connection that is cut off when its client takes nothing of a full buffer."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _stall_timer: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self.loop.call_later(STALL_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end_stall()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_stall()
        super().connection_lost(exc)

    def _end_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


class BoundedHttpProtocol(StallBound, HttpToolsProtocol):
    """HTTP/1.1 with a bound on everything."""

    _wants_head = True  # no complete head has come since the last request ended
    _counts_all = True  # the octets being parsed are of one head alone
    _head_bytes = 0  # in earlier octets
    _fields_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _linger_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._cut_off)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._counts_all = True
        super().data_received(data)
        if not self._wants_head or self.transport.is_closing():
            return
        self._head_bytes += len(data) if self._counts_all else 0
        if self._head_bytes > HEAD_BYTES_MAX:
            self.send_400_response("The request head is too large.")
        elif self._head_timer is None and self._is_idle():
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._cut_off)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._counts_all = False
        self._head_bytes = 0
        self._fields_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > LINE_BYTES_MAX:
            raise HeadTooLarge

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        line_bytes = len(name) + len(value) + 4
        self._fields_bytes += line_bytes
        if (
            line_bytes > LINE_BYTES_MAX
            or self._fields_bytes > HEAD_BYTES_MAX
            or len(self.headers) > FIELDS_MAX
        ):
            raise HeadTooLarge

    def on_headers_complete(self) -> None:
        self._wants_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._wants_head = True
        self._counts_all = False
        self._head_bytes = 0
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self._wants_head and self._linger_timer is None:
            self._linger_timer = self.loop.call_later(LINGER_S, self._cut_off)

    def _is_idle(self) -> bool:
        """Return whether no response is being made."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is None or cycle.response_complete

    def _cut_off(self) -> None:
        self.transport.close()


class BoundedWebSocketProtocol(StallBound, WebSocketsSansIOProtocol):
    """WebSocket with a bound on the handshake and on slow readers."""

    _handshake_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self._handshake_timer = self.loop.call_later(HANDSHAKE_TIMEOUT_S, self._end_handshake)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
        super().connection_lost(exc)

    def _end_handshake(self) -> None:
        if not self.handshake_complete:
            self.transport.abort()
