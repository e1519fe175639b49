"""HTTP load: requests over kept connections, closed-loop and open-loop.

Closed: every connection sends its next request when the last one is answered; the rate is the
system's. Open: requests are sent at times that were fixed before, whatever the system does, and
a latency counts from that time, so that a stalled system cannot hide the requests that it kept
from being sent.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.bench.system import BenchError

HEAD_BYTES_MAX = 64 * 1024
ANSWER_MAX_S = 60.0
JMAP_ERROR = b'["error"'
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HttpLoadResult:
    """The answers to one load."""

    latency_ms: tuple[float, ...]
    took_s: float

    @property
    def per_s(self) -> float:
        """Return the rate of the answers."""
        return len(self.latency_ms) / self.took_s


class HttpConnection(asyncio.Protocol):
    """Client side of one HTTP/1.1 connection, one request at a time, 200 expected."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._length: int | None = None
        self._waiter: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"the connection was closed: {error}")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._length is None and not self._read_head():
            return
        assert self._length is not None
        if len(self._buffer) >= self._length and self._waiter is not None:
            body = bytes(self._buffer[: self._length])
            del self._buffer[: self._length]
            self._length = None
            waiter, self._waiter = self._waiter, None
            waiter.set_result(body)

    async def ask(self, request: bytes) -> bytes:
        """Send one request; return the body of the answer. Raises BenchError."""
        assert self._waiter is None
        assert self._transport is not None
        if self._transport.is_closing():
            raise BenchError("the server has closed the connection")
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            async with asyncio.timeout(ANSWER_MAX_S):
                body = await self._waiter
        except TimeoutError:
            raise BenchError(f"no answer within {ANSWER_MAX_S:.0f} s") from None
        if JMAP_ERROR in body:
            raise BenchError(f"a JMAP method failed: {body[:300]!r}")
        return body

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _read_head(self) -> bool:
        """Take the header off the buffer if it is there; say whether it was."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                self._fail("endless header")
            return False
        head = bytes(self._buffer[:end]).lower()
        _, found, rest = head.partition(b"\r\ncontent-length:")
        if not head.startswith(b"http/1.1 200 ") or not found:
            self._fail(f"unexpected answer: {bytes(self._buffer)!r}")
            return False
        self._length = int(rest.split(b"\r\n", 1)[0])
        del self._buffer[: end + 4]
        return True

    def _fail(self, reason: str) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(BenchError(reason))


def http_request(*, port: int, path: str, authorization: str, body: bytes) -> bytes:
    """Return the octets of a POST with a JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: {authorization}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a load on a loop of its own, whose timers are exact.

    epoll waits for whole milliseconds, select for microseconds, and there are few connections.
    """
    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
    ) as runner:
        return runner.run(work)


async def ask_all(requests: Sequence[bytes], *, port: int) -> list[bytes]:
    """Send each request once, one after the other; return the bodies."""

    async def work(connections: list[HttpConnection]) -> list[bytes]:
        return [await connections[0].ask(request) for request in requests]

    return await _with_connections(work, port=port, connections=1)


async def closed_loop(
    requests: Sequence[bytes], *, port: int, connections: int, duration_s: float
) -> HttpLoadResult:
    """Send requests in turn over so many connections for so long."""

    async def work(opened: list[HttpConnection]) -> HttpLoadResult:
        latency_ms: list[float] = []
        began_s = time.perf_counter()
        position = 0

        async def client(connection: HttpConnection) -> None:
            nonlocal position
            while (sent_s := time.perf_counter()) < began_s + duration_s:
                request = requests[position % len(requests)]
                position += 1
                await connection.ask(request)
                latency_ms.append((time.perf_counter() - sent_s) * 1000)

        await asyncio.gather(*map(client, opened))
        return HttpLoadResult(tuple(latency_ms), time.perf_counter() - began_s)

    return await _with_connections(work, port=port, connections=connections)


async def open_loop(
    requests: Sequence[bytes], arrivals_s: Sequence[float], *, port: int, connections: int
) -> HttpLoadResult:
    """Send requests in turn at the given times, over the first connection that is free.

    A request for which no connection is free waits, and its waiting is part of its latency.
    """

    async def work(opened: list[HttpConnection]) -> HttpLoadResult:
        latency_ms: list[float] = []
        waiting: deque[tuple[float, bytes]] = deque()
        # Used in turn: one that rests for some seconds is closed by the server.
        idle = deque(opened)
        asking: set[asyncio.Task[None]] = set()
        failures: list[BaseException] = []
        began_s = time.perf_counter()

        async def serve(connection: HttpConnection) -> None:
            while waiting:
                due_s, request = waiting.popleft()
                await connection.ask(request)
                latency_ms.append((time.perf_counter() - due_s) * 1000)
            idle.append(connection)

        def done(task: asyncio.Task[None]) -> None:
            asking.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                failures.append(error)

        for number, arrival_s in enumerate(arrivals_s):
            due_s = began_s + arrival_s
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            waiting.append((due_s, requests[number % len(requests)]))
            if idle:
                task = asyncio.create_task(serve(idle.popleft()))
                asking.add(task)
                task.add_done_callback(done)
            if failures:
                break
        while asking:
            await asyncio.wait(asking)
            await asyncio.sleep(0)  # The callbacks have then run.
        if failures:
            raise failures[0]
        return HttpLoadResult(tuple(latency_ms), time.perf_counter() - began_s)

    return await _with_connections(work, port=port, connections=connections)


async def _with_connections(
    work: Callable[[list[HttpConnection]], Awaitable[T]], *, port: int, connections: int
) -> T:
    loop = asyncio.get_running_loop()
    opened: list[HttpConnection] = []
    try:
        for _ in range(connections):
            _, connection = await loop.create_connection(HttpConnection, "127.0.0.1", port)
            opened.append(connection)
        return await work(opened)
    finally:
        for connection in opened:
            connection.close()
