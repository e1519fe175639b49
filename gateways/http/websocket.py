"""`/jmap/ws`: JMAP over WebSocket (RFC 8887). The shell: sockets, tasks, no decisions.

One reader takes messages; each JMAP request is a task of its own, so answers may overtake
each other (RFC 8887 §4.3.3); one pusher sends StateChanges. What waits is bounded: the
requests of a connection by `maxConcurrentRequests`, its pushes by a slot for one state, in
which a newer state replaces an older one that a slow reader has not yet taken.

The connection ends with the sign-in of its handshake: with its token, or when the password is
changed; until that is known, every request looks at the sign-in again.

State       soft. A lost connection loses nothing: the client's pushState tells it what it missed.
On failure  a request that fails gets a RequestError; the connection goes on.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from actors.account_commands import Access
from gateways.http import websocket_protocol as protocol
from gateways.http.api import evaluate
from gateways.http.context import Context
from gateways.http.ids import make_account_id
from gateways.http.origin import require_own_origin
from gateways.http.problem import Problem, limit_problem, problem_of, unavailable_problem
from gateways.http.push_channel import push_changes
from gateways.http.push_state import Change, PushState
from gateways.http.signin import require_mail, sign_in
from mail.errors import SignInRefused

log = structlog.get_logger(__name__)

GOING_AWAY = 1001  # RFC 6455 §7.4.1
UNSUPPORTED_DATA = 1003
POLICY_VIOLATION = 1008  # the sign-in has ended


async def serve_websocket(websocket: WebSocket, context: Context) -> None:
    """Sign in and serve one WebSocket until either side ends it.

    Raises Problem before the handshake is answered: the client then gets an HTTP error.
    """
    access = await admit(websocket, context)
    await websocket.accept(subprotocol=protocol.SUBPROTOCOL)
    session = WebSocketSession(websocket, context, access)
    context.websockets.add(session)
    context.metrics.websockets_open.inc()
    try:
        await session.run()
    finally:
        context.websockets.discard(session)
        session.closed.set()
        context.metrics.websockets_open.dec()


async def admit(websocket: WebSocket, context: Context) -> Access:
    """Return who may open this WebSocket (RFC 8887 §4.1, §4.2). Raises Problem."""
    if context.draining.is_set():
        raise unavailable_problem("This gateway is going away.")
    require_own_origin(websocket, context.settings)
    if protocol.SUBPROTOCOL not in websocket.scope["subprotocols"]:
        raise Problem(400, "notRequest", detail="Ask for the WebSocket subprotocol jmap.")
    access = await sign_in(websocket, context)
    require_mail(access)
    mailbox = access.account.mailbox
    open_now = sum(session.account.mailbox == mailbox for session in context.websockets)
    if open_now >= context.settings.websockets_per_account_max:
        raise Problem(429, "tooManyRequests", detail="Too many WebSockets are open.")
    if context.draining.is_set():  # signing in may have taken a while
        raise unavailable_problem("This gateway is going away.")
    return access


class WebSocketSession:
    """One open WebSocket."""

    def __init__(self, websocket: WebSocket, context: Context, access: Access) -> None:
        self.account = access.account
        self._access = access
        self.closed = asyncio.Event()
        self._websocket = websocket
        self._context = context
        self._account_id = make_account_id(access.account.mailbox)
        self._requests: set[asyncio.Task[None]] = set()
        self._pusher: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[int | None] | None = None
        self._draining = False
        self._signed_out = False
        self._finish_s = 0.0

    async def run(self) -> None:
        """Serve until the client goes, breaks the protocol, or `drain` is called."""
        self._reader = asyncio.create_task(self._read())
        ending = asyncio.create_task(self._end_with_sign_in())
        close_code: int | None = None
        try:
            close_code = await self._reader
        except asyncio.CancelledError:
            if self._signed_out:
                close_code = POLICY_VIOLATION
            elif self._draining:
                close_code = GOING_AWAY
                await self._finish_requests()
            else:
                raise
        finally:
            ending.cancel()
            self._reader.cancel()
            await self._cancel_tasks()
        if close_code is not None:
            await self._close(close_code)

    async def _end_with_sign_in(self) -> None:
        await self._context.accounts.until_ended(self._access)
        self._sign_out()

    def _sign_out(self) -> None:
        """End the connection at once; what runs is not answered any more."""
        self._signed_out = True
        if self._reader is not None:
            self._reader.cancel()

    def drain(self, *, finish_s: float) -> None:
        """Take no more messages, let what runs finish within `finish_s`, close with 1001."""
        self._draining = True
        self._finish_s = finish_s
        if self._reader is not None:
            self._reader.cancel()

    async def _read(self) -> int | None:
        """Take messages; return the code to close with, None when the client has gone."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return None
            text = message.get("text")
            if text is None:  # RFC 8887 §4.3.1: binary frames are no JMAP
                return UNSUPPORTED_DATA
            await self._take(protocol.parse_message(text))

    async def _take(self, event: protocol.Event) -> None:
        match event:
            case protocol.Request():
                if len(self._requests) >= self._context.settings.concurrent_requests_max:
                    await self._refuse(event.request_id, self._too_many())
                else:
                    task = asyncio.create_task(self._answer(event))
                    self._requests.add(task)
                    task.add_done_callback(self._requests.discard)
            case protocol.PushEnable():
                await self._stop_push()
                state = PushState(event.data_types, event.push_state)
                self._pusher = asyncio.create_task(self._push(state))
            case protocol.PushDisable():
                await self._stop_push()
            case protocol.Broken():
                await self._send(protocol.broken_message(event))

    def _too_many(self) -> Problem:
        at_once_max = self._context.settings.concurrent_requests_max
        return limit_problem("maxConcurrentRequests", f"At most {at_once_max} at once.")

    async def _answer(self, request: protocol.Request) -> None:
        """Evaluate one request and send its answer."""
        try:
            access = await self._context.accounts.confirm(self._access)
            answer = await evaluate(self._context, access, request.body)
        except SignInRefused:
            self._sign_out()
            return
        except Exception as error:  # an error that we do not know is temporary
            log.warning("request failed", error=type(error).__name__)
            await self._refuse(request.request_id, problem_of(error))
            return
        self._context.metrics.websocket_requests.inc()
        if answer.status == 200:
            await self._send(protocol.response_message(request.request_id, answer.body))
        else:
            await self._send(protocol.request_error_message(request.request_id, answer.body))

    async def _refuse(self, request_id: str | None, problem: Problem) -> None:
        await self._send(protocol.request_error_message(request_id, problem.members()))

    async def _push(self, state: PushState) -> None:
        """Send StateChanges until cancelled."""
        async with aclosing(push_changes(self._context, self.account, state)) as changes:
            async for change in changes:
                await self._send(self._state_change(change))
                self._context.metrics.pushes.labels("websocket").inc()

    def _state_change(self, change: Change) -> str:
        return protocol.state_change_message(self._account_id, change.states, change.push_state)

    async def _stop_push(self) -> None:
        if self._pusher is not None:
            self._pusher.cancel()
            await asyncio.gather(self._pusher, return_exceptions=True)
            self._pusher = None

    async def _finish_requests(self) -> None:
        if self._requests:
            await asyncio.wait(self._requests, timeout=self._finish_s)

    async def _cancel_tasks(self) -> None:
        await self._stop_push()
        for task in self._requests:
            task.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)

    async def _send(self, text: str) -> None:
        """Send one message; waits for a slow reader. Nothing happens when it has gone."""
        try:
            await self._websocket.send({"type": "websocket.send", "text": text})
        except (WebSocketDisconnect, RuntimeError):
            # Starlette raises RuntimeError for a socket already closed; the reader ends it all.
            return

    async def _close(self, code: int) -> None:
        try:
            await self._websocket.close(code)
        except (WebSocketDisconnect, RuntimeError):
            return
