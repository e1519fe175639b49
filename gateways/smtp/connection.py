"""Connection: one SMTP connection as lines, chunks and replies; it knows nothing of mail.

A subclass of aiosmtpd's SMTP: the `smtp_VERB` methods and how they are called are its; buffers,
timer and task are ours. aiosmtpd reads through a StreamReader line by line and builds
tables of methods with `inspect` for every connection, which is more work than all the rest of a
short session.

Timeouts    one timer a connection that looks at a deadline, not one timer a command. Octets that
            trickle in move no deadline but that of a message, and that one by `data_rate_min`.
Bounds      input beyond INPUT_BYTES_MAX stops the reading; a peer that does not read our
            replies is waited for until the idle timeout, then cut off.
End         after the last reply the connection lingers (`gateways/smtp/farewell.py`).
Replies     collected and sent before the connection waits for anything (RFC 2920 §3.2).
On failure  `EndOfInput` when the peer is gone; `SessionEnds` carries the last reply.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from typing import ClassVar, cast

from aiosmtpd.smtp import SMTP

from gateways.smtp.farewell import CLOSE_GRACE_S, Farewells, close
from gateways.smtp.proxy_protocol import NotAProxyHeader, read_proxy_header
from gateways.smtp.settings import SessionSettings
from gateways.smtp.trace import Tls

LINE_BYTES_MAX = 1024  # RFC 5321 §4.5.3.1.4 wants 512; SIZE, BODY and SMTPUTF8 add 53
INPUT_BYTES_MAX = 1 << 16  # Unread input, beyond which the peer has to wait.
TLS_HANDSHAKE_S = 30.0

log = logging.getLogger(__name__)


class EndOfInput(Exception):
    """The peer has closed the connection, or its side of it."""


class SessionEnds(Exception):
    """The session ends with this reply."""

    def __init__(self, last_words: str) -> None:
        super().__init__(last_words)
        self.last_words = last_words


class LineTooLong(Exception):
    """A line was longer than `line_bytes_max`; all of it has been read."""


class Connection(SMTP):
    """Moves bytes between a socket and `converse`, which a subclass provides."""

    line_bytes_max: ClassVar[int] = LINE_BYTES_MAX

    def __init__(
        self,
        settings: SessionSettings,
        tls_context: ssl.SSLContext | None,
        farewells: Farewells,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        asyncio.StreamReaderProtocol.__init__(self, None, loop=loop)  # type: ignore[arg-type]
        self.loop = loop
        self.settings = settings
        self.hostname = settings.hostname
        self.tls_context = tls_context
        self._farewells = farewells
        self.transport: asyncio.Transport | None = None
        self.tls: Tls | None = None
        self.peer_ip = ""
        self._handler_coroutine: asyncio.Task[None] | None = None
        self._timeout_handle: asyncio.TimerHandle | None = None
        self._input = b""
        self._position = 0  # of the first unread octet of `_input`
        self._output: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None  # somebody waits for input
        self._reading_paused = False
        self._room: asyncio.Future[None] | None = None  # set while the peer does not read
        self._ended = False  # the peer sends no more
        self._lost = False
        self._deadline = 0.0  # of the wait for input or for room in the output
        self._data_left_s = 0.0  # that a message on its way may still be waited for
        self._session_deadline = 0.0  # for a message to be taken
        self._last_words: str | None = None

    async def converse(self) -> None:
        """Speak with the peer until EndOfInput, SessionEnds or return."""
        raise NotImplementedError

    def closed(self) -> None:
        """Take note that the conversation is over and the connection closed, but for a farewell."""

    # From the transport -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the conversation."""
        peer = transport.get_extra_info("peername")
        self.peer_ip = str(peer[0]) if isinstance(peer, tuple) else ""
        self.transport = cast("asyncio.Transport", transport)
        self.tls = _protection(transport)
        self._start_timer()
        self._handler_coroutine = self.loop.create_task(self._handle_client())

    def data_received(self, data: bytes) -> None:
        """Keep what came, wake the conversation, and stop reading when there is too much."""
        if self._position == len(self._input):
            self._input = data
        else:
            self._input = self._input[self._position :] + data
        self._position = 0
        if self._waiter is not None:
            self._wake()
        elif len(self._input) > INPUT_BYTES_MAX and not self._reading_paused:
            assert self.transport is not None
            self._reading_paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """Let what was already sent be answered: half-closed is not gone."""
        self._ended = True
        self._wake()
        return self.tls is None  # A TLS connection cannot be half-closed.

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the conversation; what it has handed on is finished, not broken off."""
        self._ended = self._lost = True
        self._wake()
        self.resume_writing()
        asyncio.StreamReaderProtocol.connection_lost(self, error)

    def pause_writing(self) -> None:
        """Note that the peer does not take what we send."""
        self._room = self.loop.create_future()

    def resume_writing(self) -> None:
        """Note that it does again."""
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # For the conversation -----------------------------------------------------------------

    async def read_line(self) -> bytes:
        """Return the next line without its LF. Raises LineTooLong, EndOfInput, SessionEnds."""
        self._deadline = self.loop.time() + self.settings.idle_timeout_s
        begun = too_long = False
        while (end := self._input.find(b"\n", self._position)) < 0:
            if not begun and self._position < len(self._input):
                begun = True
                self._hasten()
            if len(self._input) - self._position >= self.line_bytes_max:
                too_long = True
                self._position = len(self._input)
            await self._more_input()
        line = self._input[self._position : end]
        self._position = end + 1
        if too_long or len(line) >= self.line_bytes_max:
            raise LineTooLong
        return line

    def _hasten(self) -> None:
        """Give what has begun `line_timeout_s` to come to its end."""
        self._deadline = min(self._deadline, self.loop.time() + self.settings.line_timeout_s)

    async def read_proxy_header(self) -> str:
        """Return the address that a PROXY header names, "" for the connection's own.

        Raises EndOfInput when what comes is no such header, SessionEnds.
        """
        self._deadline = self.loop.time() + self.settings.idle_timeout_s
        self._hasten()
        try:
            while (header := read_proxy_header(self._input)) is None:
                await self._more_input()
        except NotAProxyHeader as error:
            log.warning("%s is a proxy and sent no PROXY header", self.peer_ip)
            raise EndOfInput from error
        self._position = header.size_bytes
        return header.source

    def start_data(self) -> None:
        """Give a message its time; every chunk then buys more at `data_rate_min`.

        Only what is waited for its octets counts, not what is between two BDAT commands.
        """
        self._data_left_s = self.settings.data_timeout_s

    async def read_chunk(self, octets_max: int = sys.maxsize) -> bytes:
        """Return what input there is, at least one octet. Raises EndOfInput, SessionEnds."""
        deadline = self._deadline = self.loop.time() + self._data_left_s
        while self._position == len(self._input):
            await self._more_input()
        available = len(self._input) - self._position
        if available <= octets_max:
            chunk = self._input[self._position :] if self._position else self._input
            self._input, self._position = b"", 0
        else:
            end = self._position + octets_max
            chunk = self._input[self._position : end]
            self._position = end
        settings = self.settings
        left_s = deadline - self.loop.time() + len(chunk) / settings.data_rate_min
        self._data_left_s = min(left_s, settings.data_timeout_s)
        return chunk

    def came_through(self) -> None:
        """Take note that a message was taken: the session has been of use."""
        self._session_deadline = self.loop.time() + self.settings.session_timeout_s

    def put_back(self, rest: bytes) -> None:
        """Return octets of the last chunk; the next read begins with them."""
        assert self._position == len(self._input)
        self._input, self._position = rest, 0

    def reply(self, line: bytes) -> None:
        """Queue one or more reply lines, each ending in CRLF."""
        self._output.append(line)

    async def flush(self) -> None:
        """Send the queued replies; wait while the peer does not take them."""
        if self._output and self.transport is not None and not self._lost:
            self.transport.write(b"".join(self._output))
            self._output.clear()
            if self._room is not None:
                self._deadline = self.loop.time() + self.settings.idle_timeout_s
                await self._room

    async def _more_input(self) -> None:
        assert self.transport is not None
        await self.flush()
        if self._last_words is not None:
            raise SessionEnds(self._last_words)
        if self._ended:
            raise EndOfInput
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()
        self._waiter = self.loop.create_future()
        await self._waiter
        if self._last_words is not None:
            raise SessionEnds(self._last_words)

    def end(self, last_words: str) -> None:
        """End the session with this reply when it next waits for input, or now if it does."""
        self._last_words = last_words
        self._wake()

    @property
    def waits_for_input(self) -> bool:
        """Say whether it is the peer's turn."""
        return self._waiter is not None

    # TLS ----------------------------------------------------------------------------------

    async def start_tls(self) -> None:
        """Go over to TLS. Nothing that was sent before counts after it (RFC 3207 §4.2, §6)."""
        assert self.transport is not None
        assert self.tls_context is not None
        await self.flush()
        self._input, self._position = b"", 0
        self._reading_paused = False
        try:
            transport = await self.loop.start_tls(
                self.transport,
                self,
                self.tls_context,
                server_side=True,
                ssl_handshake_timeout=TLS_HANDSHAKE_S,
                ssl_shutdown_timeout=CLOSE_GRACE_S,
            )
        except OSError as error:  # ssl.SSLError is one.
            raise EndOfInput from error
        if transport is None:
            raise EndOfInput
        self.transport = transport
        self.tls = _protection(transport)

    # The life of a connection -------------------------------------------------------------

    async def _handle_client(self) -> None:
        """Run the conversation; whatever happens, the connection is closed after it."""
        last_words = b""
        try:
            await self.converse()
        except SessionEnds as ends:
            last_words = f"{ends.last_words}\r\n".encode("ascii", "replace")
        except EndOfInput:
            pass  # There is nobody left to tell.
        except Exception:
            log.exception("the session of %s broke", self.peer_ip)
        finally:
            self._close(last_words)
            self.closed()

    def _close(self, last_words: bytes) -> None:
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        transport = self.transport
        if transport is None or self._lost:
            return
        if output := b"".join(self._output) + last_words:
            transport.write(output)
        if last_words and not self._ended:
            self._farewells.linger(transport)
        else:  # Nothing can come any more, or there is nothing that it could do harm to.
            close(transport)

    def abort(self) -> None:
        """Cut the connection and the conversation off."""
        if self.transport is not None:
            self.transport.abort()
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()

    def _start_timer(self) -> None:
        settings = self.settings
        now = self.loop.time()
        self._timer_s = min(
            settings.idle_timeout_s,
            settings.data_timeout_s,
            settings.line_timeout_s,
            settings.session_timeout_s,
        )
        self._deadline = now + self._timer_s
        self._session_deadline = now + settings.session_timeout_s
        self._timeout_handle = self.loop.call_at(self._deadline, self._timeout_cb)

    def _timeout_cb(self) -> None:
        """Look whether the peer has let its deadline pass; while we work, it cannot."""
        now = self.loop.time()
        blocked = self._room is not None
        # Deadlines set from now on are at least one period away, so no look comes too late.
        wait_s = self._timer_s
        if self.waits_for_input or blocked:
            left_s = min(self._deadline, self._session_deadline) - now
            if left_s <= 0:
                if blocked and self.transport is not None:
                    self.transport.abort()
                why = "Idle" if self._deadline <= now else "No message"
                self.end(f"421 4.4.2 {self.hostname} {why} for too long, closing")
                return
            wait_s = min(wait_s, left_s)
        self._timeout_handle = self.loop.call_at(now + max(wait_s, 0.01), self._timeout_cb)


def _protection(transport: asyncio.BaseTransport) -> Tls | None:
    """Return what protects a connection, None when nothing does."""
    secured = transport.get_extra_info("ssl_object")
    if secured is None:
        return None
    cipher = secured.cipher()
    return Tls(secured.version() or "TLS", cipher[0] if cipher else "unknown")
