"""A push channel: from the mailbox's listener to one client, whatever carries it.

Between them is a slot for one state: a newer state replaces one not yet taken, so a slow
client costs one state and hears of the latest only. Beats come from the `Push` port.

On failure  subscribing is repeated until the mailbox can be reached; the client hears
            nothing meanwhile, and the present states afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from actors.commands import Account, MailboxState
from gateways.http.context import Context
from gateways.http.push_state import Change, PushState
from mail.errors import MailError

log = structlog.get_logger(__name__)

RETRY_FIRST_S = 0.5  # a failover takes about a second
RETRY_S_MAX = 15.0  # below the 30 s within which every channel is to be heard


class Slot:
    """Room for one state."""

    def __init__(self) -> None:
        self._state: MailboxState | None = None
        self._filled = asyncio.Event()

    def put(self, state: MailboxState) -> None:
        """Put a state in; the one not yet taken is replaced."""
        self._state = state
        self._filled.set()

    async def take(self) -> MailboxState:
        """Wait for a state and take it out."""
        await self._filled.wait()
        self._filled.clear()
        state, self._state = self._state, None
        assert state is not None
        return state


async def push_changes(
    context: Context, account: Account, state: PushState
) -> AsyncGenerator[Change, None]:
    """Yield what a client of `account` is to be told, until closed (use `aclosing`)."""
    slot = Slot()
    async with follow(context, account, slot):
        while True:
            change = state.next(await slot.take())
            if change is not None:
                yield change


@asynccontextmanager
async def follow(context: Context, account: Account, slot: Slot) -> AsyncIterator[None]:
    """Have the states of an account put into a slot meanwhile; the present ones come first."""
    unsubscribe = await _subscribe(context, account, slot)
    try:
        yield
    finally:
        unsubscribe()


async def _subscribe(context: Context, account: Account, slot: Slot) -> Callable[[], None]:
    delay_s = RETRY_FIRST_S
    while True:
        try:
            return await context.push.subscribe(account, slot.put)
        except MailError as error:
            log.warning("push not available", error=type(error).__name__)
        await context.clock.sleep(delay_s)
        delay_s = min(2 * delay_s, RETRY_S_MAX)
