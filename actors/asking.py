"""Asking: one command carried to a shard, and repeated by its id until its fate is known.

On failure  Unavailable and its kind: the operation may still have happened (R11).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

import structlog

from actors import wire
from actors.commands import Command, Failed, Reply, ShardId
from actors.ports import Transport
from mail.errors import (
    DiskFull,
    MailError,
    NotPrimary,
    OutcomeUnknown,
    Overloaded,
    RequestExpired,
    ShardDamaged,
    Unavailable,
)

log = structlog.get_logger()

# How long a caller's protocol lets us try: people at a browser do not wait for long.
REQUEST_S_MAX = 20.0
CALL_S_MAX = 10.0
RETRY_FIRST_S, RETRY_S_MAX = 0.05, 1.0

NOT_PRIMARY = NotPrimary.__name__

ReplyT = TypeVar("ReplyT")


async def ask(
    transport: Transport,
    shard: ShardId,
    command: Command,
    expected: type[ReplyT],
    *,
    timeout_s: float = REQUEST_S_MAX,
) -> ReplyT:
    """Ask one command, repeating it by its id until it is answered or the time is over.

    Raises what the actor answered, or Unavailable.
    """
    asked = Asked(command, timeout_s)
    await _insist(transport, shard, asked)
    return wire.result(asked.answer.result(), expected)


class Asked:
    """One command on its way, and who waits for its reply."""

    def __init__(self, command: Command, timeout_s: float, *, size_bytes: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self.command = command
        self.size_bytes = size_bytes
        self.answer: asyncio.Future[Reply] = loop.create_future()
        self.deadline = loop.time() + timeout_s
        self._unknown = False  # an earlier try may have happened

    def settle(self, reply: Reply, *, again_at: float) -> None:
        """Take the reply to a try, unless a try at `again_at` may bring a better one."""
        if self.answer.done():
            return
        error = wire.raised(reply) if isinstance(reply, Failed) else None
        self._unknown = self._unknown or isinstance(error, OutcomeUnknown)
        if _passes(error) and again_at < self.deadline:
            return
        if self._unknown and isinstance(error, Unavailable):
            # What the last try says of itself says nothing of the ones before it.
            reply = wire.failed(OutcomeUnknown(error.text))
        self.answer.set_result(reply)


async def _insist(transport: Transport, shard: ShardId, asked: Asked) -> None:
    """Carry a command until it is answered; what failed or came too early goes again."""
    pause_s = RETRY_FIRST_S
    while not await carry(transport, shard, [asked], pause_s):
        await asyncio.sleep(pause_s)
        pause_s = min(RETRY_S_MAX, pause_s * 2)


async def carry(
    transport: Transport, shard: ShardId, asked: Sequence[Asked], pause_s: float
) -> bool:
    """Make one call, settle what it settles, and say whether it was all."""
    loop = asyncio.get_running_loop()
    left_s = max(one.deadline for one in asked) - loop.time()
    replies = await _call(transport, shard, asked, max(0.1, min(CALL_S_MAX, left_s)))
    for one, reply in zip(asked, replies, strict=True):
        one.settle(reply, again_at=loop.time() + pause_s)
    return all(one.answer.done() for one in asked)


async def _call(
    transport: Transport, shard: ShardId, asked: Sequence[Asked], timeout_s: float
) -> list[Reply]:
    """Return the replies of one call; whatever goes wrong with it is the reply to each command."""
    try:
        frame = wire.encode([one.command for one in asked])
        octets = await transport.call(shard, frame, timeout_s=timeout_s)
        replies = wire.decode_replies(octets)
        if any(isinstance(one, Failed) and one.error == NOT_PRIMARY for one in replies):
            transport.misled(shard)
        if len(replies) == len(asked):
            return replies
        error: Exception = OutcomeUnknown("an answer to something else")
    except Unavailable as unavailable:
        error = unavailable
    except Exception as unexpected:
        log.error("call failed", shard=shard, error=repr(unexpected))
        error = unexpected
    return [wire.failed(error)] * len(asked)


def _passes(error: MailError | None) -> bool:
    """Say whether a failure may be over in a moment: a restart, a change of primary."""
    return isinstance(error, Unavailable) and not isinstance(
        error, (ShardDamaged, DiskFull, Overloaded, RequestExpired)
    )
