"""Link: frames between two processes over one stream, calls one way, notices the other.

A Ray call costs both processes about half a millisecond of CPU, whatever it carries; a frame
on a stream that is open costs a twentieth (ADR 0012). So Ray places actors, starts them again
and tells where they listen, and what they say to each other then goes straight from process to
process. It also ends at once when a process ends, without asking anybody.

On the wire, big-endian: length u32 of what follows, number u32, frame. The first frame of a
caller is its Hello, under number 0; a call has a number of the caller's choice, its reply has
the same; the listener's frames under number 0 are notices, the caller's under TOLD need no reply.
All of it is inside TLS where `actors/link_options.py` says so, and begins after the handshake.

On failure  Unavailable: the call was certainly not made.  OutcomeUnknown: it may have been.
            Overloaded: too much waits for that process.
Bounds      calls that wait and octets that wait, on both sides; a frame's length.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import cast

import msgspec
import structlog

from actors.link_options import LinkOptions
from mail.errors import OutcomeUnknown, Overloaded, Unavailable

log = structlog.get_logger()

VERSION = 1
KEY_BYTES = 32
HEADER_BYTES = 8
# The largest message that settings allow, and what goes with it.
FRAME_BYTES_MAX = (1 << 30) + (64 << 20)
# Small frames are read together into a buffer of this size, larger ones into one of their own.
READ_BYTES = 256 << 10
# A listener works on so many calls of one caller; then it reads no more of them for a while.
CALLS_MAX = 2000
# Beyond, the caller is told at once that too much waits.
CALLS_WAITING_MAX = 4000
BYTES_WAITING_MAX = 512 << 20
# Notices beyond so many octets on their way to one caller are dropped: the next beat repeats them.
NOTICE_BYTES_MAX = 1 << 20
# Until a caller has said who it is.
HELLO_BYTES_MAX = 4096
HELLO_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 2.0
BACKLOG = 1024
# On this machine and in clear text; what tests of a single process use.
LOOPBACK = LinkOptions()

TOLD = 0xFFFF_FFFF  # the number of what a caller only tells

Handle = Callable[[bytes], Awaitable[bytes]]
Heard = Callable[[str, bytes], None]


class LinkAddress(msgspec.Struct, frozen=True, array_like=True):
    """Where an actor listens, and the key that a caller has to show: only Ray tells it."""

    host: str
    port: int
    key: bytes


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """Who calls; the first frame of a link."""

    version: int
    key: bytes
    name: str


_encoder = msgspec.msgpack.Encoder()
_hellos = msgspec.msgpack.Decoder(Hello)


class _Broken(Exception):
    """The peer does not speak as this module says."""


class FrameReader:
    """Cuts a stream into (number, frame), without I/O: octets go into `buffer()`."""

    def __init__(self) -> None:
        self.bytes_max = FRAME_BYTES_MAX
        self._small = bytearray(READ_BYTES)
        self._start = 0  # of what is in `_small` and not yet cut off
        self._end = 0
        self._large: bytearray | None = None  # a frame that does not fit into `_small`
        self._filled = 0

    def buffer(self) -> memoryview:
        """Return where the next octets go. Never empty."""
        if self._large is not None:
            return memoryview(self._large)[self._filled :]
        return memoryview(self._small)[self._end :]

    def received(self, count: int) -> Iterator[tuple[int, bytes]]:
        """Take note of `count` octets in the buffer; yield the frames that they complete.

        To be exhausted before the buffer is used again. Raises _Broken when a length is out of
        bounds; what is done about one frame may change the bound for the next.
        """
        if self._large is not None:
            self._filled += count
            if self._filled < len(self._large):
                return
            large, self._large = self._large, None
            yield _cut(memoryview(large))
            return
        self._end += count
        view = memoryview(self._small)
        while self._end - self._start >= 4:
            length = int.from_bytes(view[self._start : self._start + 4], "big")
            if not 4 <= length <= self.bytes_max:
                raise _Broken(f"a frame of {length} octets")
            begin = self._start + 4
            if self._end - begin < length:
                if begin + length > READ_BYTES:
                    self._move(begin, length)
                break
            self._start = begin + length
            yield _cut(view[begin : begin + length])
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == READ_BYTES:
            rest = self._small[self._start : self._end]
            self._small[: len(rest)] = rest
            self._start, self._end = 0, len(rest)

    def _move(self, begin: int, length: int) -> None:
        """Go on with a frame that would not fit: in front of the buffer, or in one of its own."""
        have = self._small[begin : self._end]
        if length + 4 > READ_BYTES:
            self._large = bytearray(length)
            self._large[: len(have)] = have
            self._filled = len(have)
            self._start = self._end = 0
        else:
            rest = self._small[self._start : self._end]
            self._small[: len(rest)] = rest
            self._start, self._end = 0, len(rest)


def _cut(view: memoryview) -> tuple[int, bytes]:
    return int.from_bytes(view[:4], "big"), bytes(view[4:])


class _Stream(asyncio.BufferedProtocol):
    """What both ends of a link have in common."""

    def __init__(self) -> None:
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for number, frame in self._reader.received(nbytes):
                self.frame_received(number, frame)
        except _Broken as error:
            log.error("link ended", error=str(error))
            self.end()

    def frame_received(self, number: int, frame: bytes) -> None:
        """Take one frame. For the two ends. May raise _Broken."""
        raise NotImplementedError

    def send(self, number: int, frame: bytes) -> None:
        """Send one frame, if there is still somebody."""
        if self._transport is None or self._transport.is_closing():
            return
        header = (len(frame) + 4).to_bytes(4, "big") + number.to_bytes(4, "big")
        if len(frame) < READ_BYTES:
            self._transport.write(header + frame)
        else:
            self._transport.writelines((header, frame))

    @property
    def bytes_waiting(self) -> int:
        """Return how many octets the peer has not taken yet.

        With TLS, what the socket below holds of the last frames is not counted.
        """
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def end(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()


class _Answering(_Stream):
    """The listener's end of one link."""

    def __init__(self, listener: LinkListener) -> None:
        super().__init__()
        self._reader.bytes_max = HELLO_BYTES_MAX
        self._listener = listener
        self._name = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._stuck = False  # the caller does not take our replies
        self._resting = False
        self._impatient: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._impatient = asyncio.get_running_loop().call_later(HELLO_TIMEOUT_S, self.end)
        self._listener.streams.add(self)

    def frame_received(self, number: int, frame: bytes) -> None:
        if not self._name:
            self._greet(number, frame)
            return
        if number == TOLD:
            self._listener.heard(self._name, frame)
            return
        task = asyncio.create_task(self._answer(number, frame))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        self._rest()

    def _greet(self, number: int, frame: bytes) -> None:
        try:
            hello = _hellos.decode(frame)
        except msgspec.DecodeError:
            raise _Broken("no greeting") from None
        if number or hello.version != VERSION or not hello.name:
            raise _Broken("a greeting of another kind")
        if not hmac.compare_digest(hello.key, self._listener.key):
            raise _Broken("a wrong key")
        if self._impatient is not None:
            self._impatient.cancel()
        self._reader.bytes_max = FRAME_BYTES_MAX
        self._name = hello.name
        self._listener.callers[hello.name] = self

    async def _answer(self, number: int, frame: bytes) -> None:
        # Whatever the handler raises: the caller learns that it does not know the outcome.
        self.send(number, await self._listener.handle(frame))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("call failed", caller=self._name, exc_info=error)
            self.end()
        self._rest()

    def pause_writing(self) -> None:
        self._stuck = True
        self._rest()

    def resume_writing(self) -> None:
        self._stuck = False
        self._rest()

    def _rest(self) -> None:
        """Read no more calls while too many are worked on or the replies are not taken."""
        resting = self._stuck or len(self._tasks) >= CALLS_MAX
        if resting != self._resting and self._transport is not None:
            self._resting = resting
            if not self._transport.is_closing():
                self._transport.pause_reading() if resting else self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the caller; what it asked for is done all the same."""
        if self._impatient is not None:
            self._impatient.cancel()
        self._listener.streams.discard(self)
        if self._listener.callers.get(self._name) is self:
            del self._listener.callers[self._name]
            self._listener.left(self._name)


class LinkListener:
    """Listens for callers: answers their calls with `handle`, hears what they only tell.

    What one caller tells is `heard` in its order, with the caller's name; `left` says that the
    caller of that name is gone. Neither may raise.
    """

    def __init__(
        self,
        handle: Handle,
        heard: Heard = lambda _, __: None,
        left: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.handle = handle
        self.heard = heard
        self.left = left
        self.key = secrets.token_bytes(KEY_BYTES)
        self.callers: dict[str, _Answering] = {}
        self.streams: set[_Answering] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, options: LinkOptions = LOOPBACK) -> LinkAddress:
        """Listen on a free port and return the address. Raises OSError."""
        host = options.host
        if self._server is None:
            tls = options.listening_context()
            # With protocol 0 asyncio would leave TCP_NODELAY off: 40 ms a reply.
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            listener.setblocking(False)
            listener.bind((host, 0))
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _Answering(self),
                sock=listener,
                backlog=BACKLOG,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else HELLO_TIMEOUT_S,
            )
        port = self._server.sockets[0].getsockname()[1]
        return LinkAddress(host, port, self.key)

    def notify(self, name: str, frame: bytes) -> None:
        """Send a notice to the caller of that name; drop it when there is none or it is slow."""
        caller = self.callers.get(name)
        if caller is not None and caller.bytes_waiting < NOTICE_BYTES_MAX:
            caller.send(0, frame)

    def close(self) -> None:
        """Listen no more and cut the links that there are."""
        if self._server is not None:
            self._server.close()
        for stream in list(self.streams):
            stream.end()


class Link(_Stream):
    """A caller's end. Made by `open_link`; of no use any more once it is `lost`."""

    def __init__(self, noticed: Callable[[bytes], None]) -> None:
        super().__init__()
        self.lost = False
        self._noticed = noticed
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._next = 0

    async def call(self, frame: bytes, *, timeout_s: float) -> bytes:
        """Return the reply to one frame. Raises as the module says."""
        if self.lost:
            raise Unavailable("the process is gone")
        if len(self._calls) >= CALLS_WAITING_MAX or self.bytes_waiting > BYTES_WAITING_MAX:
            raise Overloaded("too many calls wait for this actor")
        self._next = self._next % (TOLD - 1) + 1
        number = self._next
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        self.send(number, frame)
        try:
            # Not wait_for, which may swallow a cancellation that meets the answer.
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise OutcomeUnknown("no answer in time") from None
        finally:
            self._calls.pop(number, None)

    def tell(self, frame: bytes) -> bool:
        """Send a frame that needs no reply; False when it is not even sent."""
        if self.lost or self.bytes_waiting > BYTES_WAITING_MAX:
            return False
        self.send(TOLD, frame)
        return True

    def frame_received(self, number: int, frame: bytes) -> None:
        if not number:
            self._noticed(frame)
            return
        answer = self._calls.get(number)
        if answer is not None and not answer.done():
            answer.set_result(frame)

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody will be answered any more."""
        self.lost = True
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(OutcomeUnknown("the actor went away during the call"))


async def open_link(
    address: LinkAddress,
    name: str,
    noticed: Callable[[bytes], None] = lambda _: None,
    options: LinkOptions = LOOPBACK,
) -> Link:
    """Connect as `name`; notices go to `noticed`. Raises Unavailable."""
    loop = asyncio.get_running_loop()
    try:
        tls = options.calling_context(address.host)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, link = await loop.create_connection(
                lambda: Link(noticed),
                address.host,
                address.port,
                ssl=tls,
                server_hostname=None if tls is None else "",  # Names are not looked at.
            )
    except ssl.SSLError as error:
        log.error("link not encrypted, so not opened", host=address.host, error=str(error))
        raise Unavailable("the process is not one of this cluster") from None
    except OSError:  # TimeoutError is one.
        raise Unavailable("the process is gone") from None
    link.send(0, _encoder.encode(Hello(VERSION, address.key, name)))
    return link
