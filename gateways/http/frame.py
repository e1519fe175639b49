"""The frame around every request: where it may come from, its errors, headers and counts.

Plain HTTP from another machine goes no further than this (it is redirected, its credentials
unread). An exception that gets here becomes a problem; one that we do not know is told as
temporary, and its text stays here. A response that has begun and then fails is broken off,
so that the client sees it is not whole.
"""

from __future__ import annotations

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateways.http.context import Context
from gateways.http.origin import is_secure, own_authority, redirect_target
from gateways.http.problem import Problem, problem_of
from mail.errors import MailError

log = structlog.get_logger(__name__)

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
STRICT_TRANSPORT_SECURITY = "max-age=31536000"  # RFC 6797 §6.1: a year
CLIENT_GONE = 499  # counted so, never sent


class BrokenOff(Exception):
    """A response failed after it had begun; uvicorn cuts the connection. Holds no text."""


class Frame:
    """ASGI middleware around the routes."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or one WebSocket."""
        assert scope["type"] in ("http", "websocket"), "lifespan is off"
        scope["app"] = self  # so that the routes raise HTTPException instead of answering
        reply = _Reply(scope, send, self._context)
        begun_s = self._context.clock.now_s()
        try:
            await self._answer(scope, receive, reply)
        except Exception as error:  # the border: whatever it is, the client gets an answer
            _note(error, scope)
            if reply.status:
                raise BrokenOff from None
            await problem_response(error)(scope, receive, reply.send)
        finally:
            if scope["type"] == "http":
                seconds = self._context.clock.now_s() - begun_s
                self._context.metrics.observe(_route(scope), reply.status or CLIENT_GONE, seconds)

    async def _answer(self, scope: Scope, receive: Receive, reply: _Reply) -> None:
        connection = HTTPConnection(scope)
        target = redirect_target(connection, self._context.settings, self._context.https_port)
        if target is not None:
            # RFC 9110 §15.4.9: 308 keeps the method and the body.
            await RedirectResponse(target, status_code=308)(scope, receive, reply.send)
            return
        await self._app(scope, receive, reply.send)


class _Reply:
    """What has been sent so far; adds the headers that every response has."""

    def __init__(self, scope: Scope, send: Send, context: Context) -> None:
        self.status = 0
        self._scope = scope
        self._send = send
        self._context = context

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
            self._add_headers(MutableHeaders(scope=message))
        elif kind in ("websocket.accept", "websocket.close"):
            self.status = 101
        await self._send(message)

    def _add_headers(self, headers: MutableHeaders) -> None:
        for name, value in SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        connection = HTTPConnection(self._scope)
        host = own_authority(connection, self._context.settings).partition(":")[0].lower()
        # A browser would apply it to every port of localhost, and lock its user out of others.
        if is_secure(connection) and host != "localhost" and not host.endswith(".localhost"):
            headers.setdefault("Strict-Transport-Security", STRICT_TRANSPORT_SECURITY)


def problem_response(error: Exception) -> Response:
    """Return the response for an exception."""
    if isinstance(error, HTTPException):  # the routes: no such path, or not with this method
        title = "notFound" if error.status_code == 404 else "invalidArguments"
        return Problem(
            error.status_code, title, detail=error.detail, headers=error.headers
        ).response()
    return problem_of(error).response()


def _note(error: Exception, scope: Scope) -> None:
    """Log what is not the client's doing: the class and the place, never the text."""
    if isinstance(error, (Problem, HTTPException)):
        return
    if isinstance(error, MailError):
        log.warning("request failed", route=_route(scope), error=type(error).__name__)
        return
    place, trace = "", error.__traceback__
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    log.error("request failed", route=_route(scope), error=type(error).__name__, place=place)


def _route(scope: Scope) -> str:
    """Return the path of the route, with its parameters unfilled: a bounded set."""
    return getattr(scope.get("route"), "path", "other")
