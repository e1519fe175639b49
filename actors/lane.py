"""Lane: the deliveries that wait for one shard travel together in one call."""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

from actors import wire
from actors.asking import CALL_S_MAX, RETRY_FIRST_S, RETRY_S_MAX, Asked, carry
from actors.commands import Deliver, Reply, ShardId
from actors.ports import Transport
from mail.errors import OutcomeUnknown, Unavailable

log = structlog.get_logger()

# SMTP clients wait 10 minutes after DATA (RFC 5321 §4.5.3.2.6).
DELIVER_S_MAX = 30.0
# One call carries so much; more than two on the way to a shard would only wait there.
LANE_COMMANDS_MAX = 128
LANE_BYTES_MAX = 4 << 20
LANE_CALLS_MAX = 2
LANE_S_MAX = DELIVER_S_MAX + 2 * CALL_S_MAX  # a call may begin just before the time is over


class Lane:
    """The deliveries that wait for one shard, and the calls that carry them."""

    def __init__(self, transport: Transport, shard: ShardId) -> None:
        self._transport = transport
        self._shard = shard
        self._waiting: deque[Asked] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._working = 0  # calls whose worker will look at `_waiting` again

    async def deliver(self, command: Deliver) -> Reply:
        """Return the reply to one delivery: a Failed, of a temporary kind, when none came in time.

        A delivery whose caller is gone before it was sent is not sent.
        """
        asked = Asked(command, DELIVER_S_MAX, size_bytes=len(command.raw))
        self._waiting.append(asked)
        if self._working < LANE_CALLS_MAX:
            self._working += 1
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout(LANE_S_MAX):
                return await asked.answer
        except TimeoutError:  # Our bug, but the peer is not to wait for its end.
            log.error("a delivery was forgotten", shard=self._shard)
            return wire.failed(OutcomeUnknown())

    async def _work(self) -> None:
        try:
            await self._carry_waiting()
        finally:
            # At once with the last look: a task counts as running for a while after its end,
            # and a delivery that came meanwhile would wait for nobody.
            self._working -= 1

    async def _carry_waiting(self) -> None:
        await asyncio.sleep(0)  # Lets others who are about to deliver come along.
        pause_s = RETRY_FIRST_S
        while batch := self._batch():
            if await carry(self._transport, self._shard, batch, pause_s):
                pause_s = RETRY_FIRST_S
                continue
            left = [one for one in batch if not one.answer.done()]
            self._waiting.extendleft(reversed(left))
            if len(left) == len(batch):  # Else the shard works, and others do not wait.
                await asyncio.sleep(pause_s)
                pause_s = min(RETRY_S_MAX, pause_s * 2)

    def _batch(self) -> list[Asked]:
        """Take what one call carries of those who still wait for an answer."""
        now = asyncio.get_running_loop().time()
        batch: list[Asked] = []
        size = 0
        while self._waiting and len(batch) < LANE_COMMANDS_MAX and size < LANE_BYTES_MAX:
            one = self._waiting.popleft()
            if one.deadline <= now:
                one.settle(wire.failed(Unavailable("the shard is away")), again_at=now)
            if not one.answer.done():
                batch.append(one)
                size += one.size_bytes
        return batch
