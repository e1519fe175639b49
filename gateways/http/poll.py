"""`/jmap/poll`: long polling, for clients that can hold neither stream nor WebSocket.

`GET /jmap/poll?since=<pushState>&wait=<seconds>&types=<names>` is answered at once with 200 and a
StateChange (RFC 8620 §7.1), with its `pushState` beside it as RFC 8887 §4.3.5.1 has it, when the
states differ from `since`, or when `since` is missing or none of ours; else as soon as something
changes; with 204 when nothing has within `wait`. Either answer rests on states that the mailbox
itself told during the request; while it cannot be reached, the answer is 503.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from actors.account_commands import Access
from gateways.http.context import Context
from gateways.http.event_source import parse_types
from gateways.http.ids import make_account_id
from gateways.http.problem import Problem, unavailable_problem
from gateways.http.push_channel import Slot, follow
from gateways.http.push_state import Change, PushState, parse_push_state
from gateways.http.signin import require_mail, sign_in_required

WAIT_S = 25
# Below the 30 s within which every push channel is heard, with room for the way.
WAIT_S_MAX = 28
REACH_S = 5.0  # for the mailbox to tell its states, however short the client's patience is


@dataclass(frozen=True, slots=True)
class Wish:
    """What the client asked for in the URL."""

    data_types: frozenset[str] | None  # None: all
    since: str | None  # None: it knows nothing
    wait_s: int


def parse_poll(query: QueryParams) -> Wish:
    """Return the parameters of the URL. Raises Problem 400."""
    wait = query.get("wait", str(WAIT_S))
    if not (wait.isascii() and wait.isdigit() and len(wait) <= 9):
        raise Problem(400, "invalidArguments", detail="wait is a number of seconds.")
    since = query.get("since", "")
    known = since if parse_push_state(since) is not None else None
    return Wish(parse_types(query), known, min(int(wait), WAIT_S_MAX))


async def poll_response(request: Request, context: Context, access: Access) -> Response:
    """Return the answer to one poll. Raises Problem."""
    require_mail(access)
    if context.draining.is_set():
        raise unavailable_problem("This gateway is going away.")
    wish = parse_poll(request.query_params)
    with context.polls.one(access.account.mailbox):
        change = await _change_or_end(request, context, access, wish)
    headers = {"Cache-Control": "no-store"}
    if change is None:
        return Response(status_code=204, headers=headers)
    context.metrics.pushes.labels("poll").inc()
    account_id = make_account_id(access.account.mailbox)
    body = {
        "@type": "StateChange",
        "changed": {account_id: change.states},
        "pushState": change.push_state,
    }
    return Response(msgspec.json.encode(body), media_type="application/json", headers=headers)


async def _change_or_end(
    request: Request, context: Context, access: Access, wish: Wish
) -> Change | None:
    """Return what to tell, None when nothing changed in time. Raises Problem 401, 503."""
    polling = asyncio.create_task(_change(context, access, wish))
    ended = asyncio.create_task(context.accounts.until_ended(access))
    others = (
        asyncio.create_task(context.draining.wait()),
        asyncio.create_task(_until_gone(request)),
    )
    tasks = {polling, ended, *others}
    try:
        timeout_s = max(wish.wait_s, REACH_S) + 1
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise sign_in_required(token_error=True)
        if not polling.done():
            raise unavailable_problem("The mailbox cannot be reached, or this gateway goes away.")
        return polling.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _change(context: Context, access: Access, wish: Wish) -> Change | None:
    """Return the first difference from what the client knows, None when none came in time."""
    until_s = asyncio.get_running_loop().time() + wish.wait_s
    state = PushState(wish.data_types, wish.since, repeats=False)
    slot = Slot()
    async with follow(context, access.account, slot):
        change = state.next(await slot.take())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until_s):
                while change is None:
                    change = state.next(await slot.take())
        return change


async def _until_gone(request: Request) -> None:
    """Return when the client has gone: nobody waits for an answer any more."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
