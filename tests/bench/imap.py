"""ImapClient: as much of IMAP4rev1 as timing the rival takes (RFC 3501 §6)."""

from __future__ import annotations

import socket
import time
from types import TracebackType
from typing import Self

from tests.bench.system import BenchError

ANSWER_MAX_S = 300.0  # A search through a hundred thousand files.
READ_BYTES = 256 * 1024


class ImapClient:
    """One connection, signed in, one command at a time."""

    def __init__(self, *, port: int, user: str, password: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_MAX_S)
        self._number = 0
        self._read_until(b"\r\n")
        self.command(f'LOGIN "{user}" "{password}"')

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def command(self, text: str) -> bytes:
        """Return all that is answered. Raises BenchError unless it ends with OK."""
        self._number += 1
        tag = f"bench{self._number}".encode()
        self._socket.sendall(tag + b" " + text.encode() + b"\r\n")
        return self._read_tagged(tag)

    def timed_ms(self, text: str) -> tuple[float, bytes]:
        """Return the time that a command takes, and its answer."""
        began_s = time.perf_counter()
        answer = self.command(text)
        return (time.perf_counter() - began_s) * 1000, answer

    def _read_tagged(self, tag: bytes) -> bytes:
        answer = bytearray()
        mark = b"\r\n" + tag + b" "
        while True:
            at = 0 if answer.startswith(mark[2:]) else answer.rfind(mark)
            if at >= 0 and answer.endswith(b"\r\n"):
                if b" OK" not in answer[at : at + len(mark) + 3]:
                    raise BenchError(f"IMAP: {bytes(answer[at:])!r}")
                return bytes(answer)
            answer += self._receive()

    def _read_until(self, end: bytes) -> None:
        answer = bytearray()
        while not answer.endswith(end):
            answer += self._receive()

    def _receive(self) -> bytes:
        data = self._socket.recv(READ_BYTES)
        if not data:
            raise BenchError("the IMAP server closed the connection")
        return data
