"""The routes of the HTTP gateway: a path, who may, and the module that answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from actors.account_commands import Access
from gateways.http import accounts, tokens
from gateways.http.api import api_response
from gateways.http.blobs import download_response, upload_response
from gateways.http.context import Context
from gateways.http.event_source import event_source_response
from gateways.http.frame import Frame
from gateways.http.health import live_response, ready_response
from gateways.http.metrics import metrics_response
from gateways.http.origin import own_base_url, require_own_origin
from gateways.http.poll import poll_response
from gateways.http.session import session_response
from gateways.http.signin import require_mail, sign_in
from gateways.http.websocket import serve_websocket

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]
SignedIn: TypeAlias = Callable[[Request, Context, Access], Awaitable[Response]]
Unsigned: TypeAlias = Callable[[Request, Context], Awaitable[Response]]

LANDING_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Heliograph</title></head>
<body><h1>Heliograph</h1>
<p>This is a mail server. Sign in with a JMAP client: <a href="/.well-known/jmap">session</a>.</p>
<p><a href="/health/ready">Health</a> · <a href="/metrics">Metrics</a></p>
</body></html>
"""


def build_app(context: Context) -> ASGIApp:
    """Return the ASGI application of one gateway."""

    def signed_in(answer: SignedIn) -> Endpoint:
        """Return the endpoint that signs in and then answers."""

        async def endpoint(request: Request) -> Response:
            if request.method not in ("GET", "HEAD"):
                require_own_origin(request, context.settings)
            return await answer(request, context, await sign_in(request, context))

        return endpoint

    def unsigned(answer: Unsigned) -> Endpoint:
        """Return the endpoint of those who have not signed in yet."""

        async def endpoint(request: Request) -> Response:
            require_own_origin(request, context.settings)
            return await answer(request, context)

        return endpoint

    async def live(_: Request) -> Response:
        return live_response()

    async def ready(_: Request) -> Response:
        return await ready_response(context.readiness, draining=context.draining.is_set())

    async def metrics(_: Request) -> Response:
        return await metrics_response(context.metrics, context.metrics_sources)

    async def websocket(socket: WebSocket) -> None:
        await serve_websocket(socket, context)

    session, upload = signed_in(_session), signed_in(upload_response)
    routes = [
        Route("/", _landing),
        Route("/.well-known/jmap", session),
        Route("/jmap/session", session),
        Route("/jmap/api", signed_in(api_response), methods=["POST"]),
        Route("/jmap/upload/{account_id}", upload, methods=["POST"]),
        Route("/jmap/upload/{account_id}/", upload, methods=["POST"]),
        Route("/jmap/download/{account_id}/{blob_id}/{name:path}", signed_in(download_response)),
        Route("/jmap/eventsource", signed_in(event_source_response)),
        Route("/jmap/poll", signed_in(poll_response)),
        WebSocketRoute("/jmap/ws", websocket),
        Route("/auth/token", unsigned(tokens.token_response), methods=["POST"]),
        Route("/auth/revoke", unsigned(tokens.revoke_response), methods=["POST"]),
        Route("/auth/signup", unsigned(accounts.signup_response), methods=["POST"]),
        Route("/auth/sessions", signed_in(accounts.sessions_response), methods=["GET", "DELETE"]),
        Route("/auth/sessions/{id}", signed_in(accounts.session_response), methods=["DELETE"]),
        Route(
            "/auth/app-passwords",
            signed_in(accounts.app_passwords_response),
            methods=["GET", "POST"],
        ),
        Route(
            "/auth/app-passwords/{id}",
            signed_in(accounts.app_password_response),
            methods=["DELETE"],
        ),
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/metrics", metrics),
    ]
    return Frame(Router(routes, redirect_slashes=False), context)


async def _session(request: Request, context: Context, access: Access) -> Response:
    require_mail(access)
    base_url = own_base_url(request, context.settings)
    return session_response(access, context.settings, base_url)


async def _landing(_: Request) -> Response:
    return Response(LANDING_PAGE, media_type="text/html", headers={"Cache-Control": "no-cache"})
