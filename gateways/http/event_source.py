"""`/jmap/eventsource`: StateChanges as server-sent events (RFC 8620 §7.3).

The event id is the push state, so that a browser that comes back with Last-Event-ID hears
only of what it missed. Every beat is an ordinary `state` event, besides the `ping` events
that the client may ask for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from actors.account_commands import Access
from gateways.http.context import Context
from gateways.http.ids import make_account_id
from gateways.http.problem import Problem, unavailable_problem
from gateways.http.push_channel import push_changes
from gateways.http.push_state import Change, PushState
from gateways.http.signin import require_mail

PING_S_MIN = 5  # RFC 8620 §7.3: the server may bound the interval
PING_S_MAX = 30  # proxies cut silent connections after a minute or so
TYPES_MAX = 64


@dataclass(frozen=True, slots=True)
class Wish:
    """What the client asked for in the URL."""

    data_types: frozenset[str] | None  # None: all
    close_after_state: bool
    ping_s: int  # 0: none


def parse_wish(query: QueryParams) -> Wish:
    """Return the parameters of the URL. Raises Problem 400."""
    close_after = query.get("closeafter", "no")
    ping = query.get("ping", "0")
    if close_after not in ("state", "no"):
        raise Problem(400, "invalidArguments", detail="closeafter is `state` or `no`.")
    if not (ping.isascii() and ping.isdigit() and len(ping) <= 9):
        raise Problem(400, "invalidArguments", detail="ping is a number of seconds.")
    ping_s = min(max(int(ping), PING_S_MIN), PING_S_MAX) if int(ping) else 0
    return Wish(parse_types(query), close_after == "state", ping_s)


def parse_types(query: QueryParams) -> frozenset[str] | None:
    """Return the data types that a client wants, None for all. Raises Problem 400."""
    types = query.get("types", "*")
    names = types.split(",")
    if len(names) > TYPES_MAX:
        raise Problem(400, "invalidArguments", detail="Too many types.")
    return None if types == "*" else frozenset(names)


async def event_source_response(request: Request, context: Context, access: Access) -> Response:
    """Return the stream of events; it ends with the sign-in. Raises Problem."""
    require_mail(access)
    if context.draining.is_set():
        raise unavailable_problem("This gateway is going away.")
    wish = parse_wish(request.query_params)
    with context.event_sources.one(access.account.mailbox):
        pass  # Is there room? The stream itself counts when it begins.
    state = PushState(wish.data_types, request.headers.get("last-event-id"))
    return StreamingResponse(
        _events(context, access, wish, state),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )


async def _events(
    context: Context, access: Access, wish: Wish, state: PushState
) -> AsyncGenerator[bytes, None]:
    account = access.account
    account_id = make_account_id(account.mailbox)
    yield b": ok\n\n"  # headers reach the client at once
    ends = {
        asyncio.create_task(context.draining.wait()),
        asyncio.create_task(context.accounts.until_ended(access)),
    }
    following: asyncio.Task[Change] | None = None
    try:
        with context.event_sources.one(account.mailbox):
            async with aclosing(push_changes(context, account, state)) as changes:
                try:
                    while not any(end.done() for end in ends):
                        following = following or asyncio.create_task(anext(changes))
                        await asyncio.wait(
                            {following, *ends},
                            timeout=wish.ping_s or None,
                            return_when=asyncio.FIRST_COMPLETED,
                        )
                        if following.done():
                            yield state_event(account_id, following.result())
                            following = None
                            context.metrics.pushes.labels("eventsource").inc()
                            if wish.close_after_state:
                                return
                        elif not any(end.done() for end in ends):
                            yield ping_event(wish.ping_s)
                finally:  # `changes` can be closed only once nothing runs in it
                    await _end(following)
    finally:
        for end in ends:
            end.cancel()


async def _end(task: asyncio.Task[Change] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def state_event(account_id: str, change: Change) -> bytes:
    """Return a `state` event: a StateChange object (RFC 8620 §7.1)."""
    value = {"@type": "StateChange", "changed": {account_id: change.states}}
    data = msgspec.json.encode(value)
    return b"event: state\nid: " + change.push_state.encode() + b"\ndata: " + data + b"\n\n"


def ping_event(interval_s: int) -> bytes:
    """Return a `ping` event with the interval in use."""
    return b"event: ping\ndata: " + msgspec.json.encode({"interval": interval_s}) + b"\n\n"
