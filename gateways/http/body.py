"""Request bodies: bounded in size, in time and in all.

A body is kept in memory until the one Ray call that takes it, so the sum of all bodies has a
bound. A sender must keep up a slow modem's pace, else it gets 408.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect, Request

from actors.commands import MailboxId
from gateways.http.problem import Problem, limit_problem, unavailable_problem

GRACE_S = 30.0  # before the first octet and over all pauses
RATE_BYTES_PER_S_MIN = 8_192


class BodyBudget:
    """The octets of request bodies that may be in memory at once."""

    def __init__(self, bytes_max: int) -> None:
        self.free_bytes = bytes_max

    @contextmanager
    def body(self) -> Iterator[Body]:
        """Lend room to one body until the request has been answered."""
        body = Body(self)
        try:
            yield body
        finally:
            self.free_bytes += body.size_bytes


class Body:
    """One request body, on loan from the budget."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.size_bytes = 0

    async def read(self, request: Request, *, bytes_max: int, too_large: Problem) -> bytes:
        """Return the whole body.

        Raises `too_large` above `bytes_max`, before reading when Content-Length tells it;
        Problem 408 for a sender that is too slow, 503 when the budget is used up.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > bytes_max:
            raise too_large
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        chunks: list[bytes] = []
        stream = request.stream()
        while True:
            until_s = begun_s + GRACE_S + self.size_bytes / RATE_BYTES_PER_S_MIN
            try:
                async with asyncio.timeout_at(until_s):
                    chunk = await anext(stream, b"")
            except TimeoutError:
                raise Problem(408, "timeout", detail="The body came too slowly.") from None
            except ClientDisconnect:
                raise Problem(400, "invalidArguments", detail="The body broke off.") from None
            if not chunk:
                return b"".join(chunks)
            self._take(len(chunk))
            if self.size_bytes > bytes_max:
                raise too_large
            chunks.append(chunk)

    def _take(self, size_bytes: int) -> None:
        if size_bytes > self._budget.free_bytes:
            raise unavailable_problem("Too many requests are being received.")
        self._budget.free_bytes -= size_bytes
        self.size_bytes += size_bytes


class AtOnce:
    """Bounds how many things of one kind an account does at once (RFC 8620 §2)."""

    def __init__(self, limit: str, at_once_max: int) -> None:
        self._limit = limit
        self._at_once_max = at_once_max
        self._running: Counter[MailboxId] = Counter()

    @contextmanager
    def one(self, mailbox: MailboxId) -> Iterator[None]:
        """Count one more while it runs. Raises the `limit` problem of RFC 8620 §3.6.1."""
        if self._running[mailbox] >= self._at_once_max:
            raise limit_problem(self._limit, f"At most {self._at_once_max} at once.")
        self._running[mailbox] += 1
        try:
            yield
        finally:
            self._running[mailbox] -= 1
            if not self._running[mailbox]:
                del self._running[mailbox]
