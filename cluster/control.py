"""Control: the private listener of a running cluster (ADR 0007).

HTTP on loopback, JSON in and out, with a random token that only the owner of the data directory
can read. Errors are `{"error": text, "kind": class}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.administration import Administration
from cluster.control_accounts import AccountRoutes
from cluster.control_transfer import TransferRoutes
from cluster.control_upkeep import UpkeepRoutes
from cluster.transfer import Transfer
from mail.errors import AlreadyExists, Invalid, MailError, NotFound, Unavailable

log = structlog.get_logger()

LOOPBACK = "127.0.0.1"
TOKEN_BYTES = 32
STATUSES = ((NotFound, 404), (AlreadyExists, 409), (Invalid, 400), (Unavailable, 503))


class TokenGate:
    """Lets through who has the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if not secrets.compare_digest(given, self._expected):
            refusal = JSONResponse({"error": "wrong token", "kind": "SignInRefused"}, 401)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)


class QuietServer(uvicorn.Server):
    """A server inside a process that handles signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Control:
    """The control listener: from `open` on it is there, from `serve` on it does its work."""

    def __init__(self, stop: Callable[[], None], more: Sequence[Route] = ()) -> None:
        """Make it; `more` are routes that need no part of the running cluster."""
        self._more = more
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        self._stop = stop
        self._administration: Administration | None = None
        self._transfer: Transfer | None = None
        self._status: Callable[[], Awaitable[dict[str, Any]]] | None = None
        self._server: QuietServer | None = None
        self._serving: asyncio.Task[None] | None = None

    async def open(self) -> str:
        """Listen on a free port of the loopback address; return the address."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind((LOOPBACK, 0))
        listener.listen()  # From now on who comes is not refused, though nobody answers yet.
        config = uvicorn.Config(
            TokenGate(self._app(), self.token), log_config=None, access_log=False, lifespan="off"
        )
        self._server = QuietServer(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="control")
        host, port = listener.getsockname()
        return f"{host}:{port}"

    def serve(
        self,
        administration: Administration,
        status: Callable[[], Awaitable[dict[str, Any]]],
        transfer: Transfer | None = None,
    ) -> None:
        """Begin to carry out commands."""
        self._administration = administration
        self._transfer = transfer
        self._status = status

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving

    def _app(self) -> Starlette:
        routes = [
            Route("/status", self._get_status, methods=["GET"]),
            Route("/stop", self._post_stop, methods=["POST"]),
            *AccountRoutes(lambda: self._ready).routes(),
            *self._more,
            Route("/mailboxes/{address}", self._get_mailbox, methods=["GET"]),
            # A Message-ID may hold slashes.
            Route(
                "/mailboxes/{address}/receipts/{message:path}", self._get_receipt, methods=["GET"]
            ),
            *TransferRoutes(lambda: self._transfers).routes(),
            *UpkeepRoutes(lambda: self._ready.upkeep).routes(),
        ]
        return Starlette(
            routes=routes,
            exception_handlers={MailError: _refused, Exception: _failed},
        )

    @property
    def _ready(self) -> Administration:
        if self._administration is None:
            raise Unavailable("the cluster is still starting")
        return self._administration

    @property
    def _transfers(self) -> Transfer:
        if self._transfer is None:
            raise Unavailable("the cluster is still starting")
        return self._transfer

    async def _get_status(self, request: Request) -> Response:
        if self._status is None:
            raise Unavailable("the cluster is still starting")
        return JSONResponse(await self._status())

    async def _post_stop(self, request: Request) -> Response:
        self._stop()
        return JSONResponse({})

    async def _get_mailbox(self, request: Request) -> Response:
        return JSONResponse(await self._ready.mailbox(request.path_params["address"]))

    async def _get_receipt(self, request: Request) -> Response:
        address, message = request.path_params["address"], request.path_params["message"]
        return JSONResponse(await self._ready.receipt(address, message))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, MailError)
    status = next((code for cls, code in STATUSES if isinstance(error, cls)), 400)
    return JSONResponse({"error": error.text, "kind": type(error).__name__}, status)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("command failed", path=request.url.path, exc_info=error)
    return JSONResponse({"error": "internal error, see the log", "kind": "Unavailable"}, 500)
