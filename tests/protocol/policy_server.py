"""PolicyServer: an HTTPS server on loopback that serves one MTA-STS policy, or something else.

One connection, one answer. What it answers may be changed while it runs; requests are counted.
"""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster.certificates import SERVER, Pair, issue, make_ca, names_of

ADDRESS = "127.0.0.1"


def policy_text(*hosts: str, mode: str = "enforce", max_age_s: int = 3600) -> str:
    """Return the body of a policy."""
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {host}" for host in hosts)]
    return "\r\n".join([*lines, f"max_age: {max_age_s}", ""])


def answer(
    body: str, *, status: str = "200 OK", content_type: str = "text/plain", **more: str
) -> bytes:
    """Return an HTTP response; `more` are fields of its head."""
    fields = {"Content-Type": content_type, "Content-Length": str(len(body)), **more}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n{body}".encode()


class Authority:
    """A CA of a test's own, and what trusts and what shows its certificates."""

    def __init__(self, directory: Path, now: datetime.datetime) -> None:
        self._directory, self._now = directory, now
        self.ca: Pair = make_ca("A test's CA", now, 30)
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(self.ca.certificate_pem)

    def serving(self, *names: str, made: datetime.datetime | None = None) -> ssl.SSLContext:
        """Return what a server for these names shows: a certificate of ten days."""
        pair = issue(self.ca, names[0], names_of(*names), [SERVER], made or self._now, 10)
        file, key_file = self._directory / "server.pem", self._directory / "server-key.pem"
        pair.write(file, key_file)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file, key_file)
        return context


class PolicyServer:
    """A context manager; `response` is what it answers, None for silence."""

    def __init__(self, context: ssl.SSLContext, response: bytes | None) -> None:
        self.context = context
        self.response = response
        self.requests: list[bytes] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._silence = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, ADDRESS, 0, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._silence.set()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            if self.response is None:
                await self._silence.wait()
            else:
                writer.write(self.response)
                await writer.drain()
        except (OSError, EOFError):
            return
        finally:
            writer.close()
