"""Expiry: empties Trash and Junk of a shard's mailboxes, and what is left of removed ones.

Once an hour it looks at every mailbox: two reads where there is nothing to do. What is due goes
in small turns, others' turns between them, and reaches clients like any other change.

State       none: what is due is read from the shard, so a sweep that was cut short goes on with
            the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog

from actors import mailbox_turns
from actors.expiry_turns import due, expire
from mail.errors import MailError
from storage.mailbox_reader import MailboxReader, mailboxes
from storage.shard import Shard

log = structlog.get_logger()

SWEEP_EVERY_S = 3600.0
# The shards of a node begin one after the other, and before an unused one is sent to rest: it is
# woken once a day for this.
SWEEP_FIRST_S, SWEEP_SPREAD_S = 10, 60
DAY_MS = 24 * 3600 * 1000
# Mailboxes looked at, and then turns made, before others have a pause of this length.
LOOKED_AT_ONCE = 50
PAUSE_S = 0.02
# Of one mailbox in one sweep: 100,000 emails. A bound, should a turn not do its work.
TURNS_MAX = 1000


class Expiry:
    """The sweep of one shard. `days` maps the role of a folder to days, 0 for never."""

    def __init__(
        self,
        shard: Shard,
        days: Mapping[str, int],
        *,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._shard = shard
        self._days = {role: number for role, number in days.items() if number > 0}
        self._clock_ms = clock_ms
        self._task: asyncio.Task[None] | None = None
        self._removals: dict[int, asyncio.Task[None]] = {}

    def start(self, number: int) -> None:
        """Begin to sweep every hour; `number` spreads the shards of a node."""
        first_s = SWEEP_FIRST_S + number % SWEEP_SPREAD_S
        self._task = asyncio.create_task(self._sweep_forever(first_s), name="expiry")

    async def _sweep_forever(self, first_s: float) -> None:
        await asyncio.sleep(first_s)
        while True:
            try:
                await self.sweep()
            except MailError as error:
                log.info("sweep put off", error=type(error).__name__)
            except Exception:
                log.exception("sweep failed")
            await asyncio.sleep(SWEEP_EVERY_S)

    async def sweep(self) -> None:
        """Look at every mailbox once. Raises MailError when the shard takes no turns now."""
        for looked_at, mailbox in enumerate(mailboxes(self._shard.state)):
            if looked_at % LOOKED_AT_ONCE == 0:
                await asyncio.sleep(PAUSE_S)
            reader = MailboxReader(mailbox, self._shard.state)
            if reader.removed:
                self.remove(mailbox)
            elif reader.exists:
                for role, days in self._days.items():
                    await self._expire(reader, role, self._clock_ms() - days * DAY_MS)

    async def _expire(self, reader: MailboxReader, role: str, placed_before_ms: int) -> None:
        for _ in range(TURNS_MAX):
            if not due(reader, role, placed_before_ms, limit=1):
                return
            turn = expire(role, placed_before_ms)
            plan = mailbox_turns.mailbox_plan(reader.mailbox_id, turn)
            await self._shard.run(reader.mailbox_id, b"", plan)
            await asyncio.sleep(PAUSE_S)

    def remove(self, mailbox: int) -> None:
        """Begin to destroy what is left of a mailbox that was marked as removed."""
        if mailbox not in self._removals:
            task = asyncio.create_task(self._remove(mailbox), name="remove mailbox")
            self._removals[mailbox] = task
            task.add_done_callback(lambda _: self._removals.pop(mailbox))

    async def _remove(self, mailbox: int) -> None:
        last = b""
        while True:
            try:
                plan = mailbox_turns.remove_some(mailbox, last)
                last = await self._shard.run(mailbox, b"", plan)
            except MailError as error:  # The next sweep goes on with it.
                log.info("removal put off", mailbox=mailbox, error=type(error).__name__)
                return
            if not last:
                return
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Stop, between two turns."""
        tasks = [*self._removals.values(), *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
