"""Control: the private listener of a running cluster (ADR 0007).

HTTP on loopback, JSON in and out, with a random token that only the owner of the data directory
can read. Errors are `{"error": text, "kind": class}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.administration import Administration
from mail.errors import AlreadyExists, Invalid, MailError, NotFound, Unavailable

log = structlog.get_logger()

LOOPBACK = "127.0.0.1"
TOKEN_BYTES = 32
BODY_BYTES_MAX = 64 << 10
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

    def __init__(self, stop: Callable[[], None]) -> None:
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        self._stop = stop
        self._administration: Administration | None = None
        self._status: Callable[[], Awaitable[dict[str, Any]]] | None = None
        self._server: QuietServer | None = None
        self._serving: asyncio.Task[None] | None = None

    async def open(self) -> str:
        """Listen on a free port of the loopback address; return the address."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind((LOOPBACK, 0))
        config = uvicorn.Config(
            TokenGate(self._app(), self.token), log_config=None, access_log=False, lifespan="off"
        )
        self._server = QuietServer(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="control")
        host, port = listener.getsockname()
        return f"{host}:{port}"

    def serve(
        self, administration: Administration, status: Callable[[], Awaitable[dict[str, Any]]]
    ) -> None:
        """Begin to carry out commands."""
        self._administration = administration
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
            Route("/domains", self._domains, methods=["GET", "POST"]),
            Route("/domains/{domain}", self._delete_domain, methods=["DELETE"]),
            Route("/accounts", self._accounts, methods=["GET", "POST"]),
            Route("/accounts/{address}", self._delete_account, methods=["DELETE"]),
            Route("/accounts/{address}/password", self._put_password, methods=["PUT"]),
            Route("/aliases", self._post_alias, methods=["POST"]),
            Route("/aliases/{alias}", self._delete_alias, methods=["DELETE"]),
            Route("/mailboxes/{address}", self._get_mailbox, methods=["GET"]),
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

    async def _get_status(self, request: Request) -> Response:
        if self._status is None:
            raise Unavailable("the cluster is still starting")
        return JSONResponse(await self._status())

    async def _post_stop(self, request: Request) -> Response:
        self._stop()
        return JSONResponse({})

    async def _domains(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse({"domains": await self._ready.domains()})
        domain = _text(await _body(request), "domain")
        await self._ready.add_domain(domain)
        return JSONResponse({"domain": domain}, 201)

    async def _delete_domain(self, request: Request) -> Response:
        await self._ready.remove_domain(request.path_params["domain"])
        return JSONResponse({})

    async def _accounts(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse({"accounts": await self._ready.accounts()})
        body = await _body(request)
        quota_bytes = body.get("quota_bytes", 0)
        if not isinstance(quota_bytes, int) or quota_bytes < 0:
            raise Invalid("quota_bytes is a number of bytes, 0 for no limit")
        facts = await self._ready.add_account(
            _text(body, "address"),
            _text(body, "password"),
            quota_bytes=quota_bytes,
            admin=body.get("admin") is True,
        )
        return JSONResponse(facts, 201)

    async def _delete_account(self, request: Request) -> Response:
        await self._ready.remove_account(request.path_params["address"])
        return JSONResponse({})

    async def _put_password(self, request: Request) -> Response:
        password = _text(await _body(request), "password")
        await self._ready.set_password(request.path_params["address"], password)
        return JSONResponse({})

    async def _post_alias(self, request: Request) -> Response:
        body = await _body(request)
        await self._ready.add_alias(_text(body, "alias"), _text(body, "address"))
        return JSONResponse({}, 201)

    async def _delete_alias(self, request: Request) -> Response:
        await self._ready.remove_alias(request.path_params["alias"])
        return JSONResponse({})

    async def _get_mailbox(self, request: Request) -> Response:
        return JSONResponse(await self._ready.mailbox(request.path_params["address"]))


async def _body(request: Request) -> dict[str, Any]:
    octets = b""
    async for chunk in request.stream():
        octets += chunk
        if len(octets) > BODY_BYTES_MAX:
            raise Invalid("the request is too large")
    try:
        body = json.loads(octets)
    except ValueError:
        raise Invalid("the request is not JSON") from None
    if not isinstance(body, dict):
        raise Invalid("the request is not a JSON object")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise Invalid(f"{name} is missing")
    return value


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, MailError)
    status = next((code for cls, code in STATUSES if isinstance(error, cls)), 400)
    return JSONResponse({"error": error.text, "kind": type(error).__name__}, status)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("command failed", path=request.url.path, exc_info=error)
    return JSONResponse({"error": "internal error, see the log", "kind": "Unavailable"}, 500)
