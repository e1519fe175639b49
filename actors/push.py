"""Push: who is told of a mailbox's new states.

`Subscriptions` lives in the mailbox actor: which gateways follow which mailbox, until when.
`PushHub` lives in the gateway: its listeners, and the beat that renews the subscriptions. A
lost notification is noticed at the next beat, which brings the present states (R10).

State       soft, on both sides: a restarted actor is subscribed to again within one beat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from actors.commands import GatewayId, MailboxId, MailboxState, ShardId, States
from mail.errors import MailError

log = structlog.get_logger()

SUBSCRIPTION_TTL_MS = 60_000
# A beat renews the subscriptions; listeners hear the present states at least every
# BEAT_S + BEATS_SILENT_S, which stays below the 30 s that every push channel promises.
BEAT_S = 8.0
BEAT_AFTER_FAILURE_S = 1.0
SILENT_S_MAX = 15.0
GATEWAYS_PER_MAILBOX_MAX = 1024

Listener = Callable[[MailboxState], None]


class Subscriptions:
    """The gateways that follow the mailboxes of one shard."""

    def __init__(self) -> None:
        self._until_ms: dict[MailboxId, dict[GatewayId, int]] = {}

    def add(self, gateway: GatewayId, mailboxes: Iterable[MailboxId], until_ms: int) -> None:
        for mailbox in mailboxes:
            followers = self._until_ms.setdefault(mailbox, {})
            if gateway in followers or len(followers) < GATEWAYS_PER_MAILBOX_MAX:
                followers[gateway] = until_ms

    def remove(self, gateway: GatewayId, mailboxes: Iterable[MailboxId]) -> None:
        for mailbox in mailboxes:
            followers = self._until_ms.get(mailbox, {})
            followers.pop(gateway, None)
            if not followers:
                self._until_ms.pop(mailbox, None)

    def followers(self, mailbox: MailboxId, now_ms: int) -> list[GatewayId]:
        """Return who follows a mailbox now; forget who has not renewed."""
        followers = self._until_ms.get(mailbox)
        if not followers:
            return []
        gone = [gateway for gateway, until_ms in followers.items() if until_ms <= now_ms]
        for gateway in gone:
            self.remove(gateway, (mailbox,))
        return list(self._until_ms.get(mailbox, {}))


Renew = Callable[[ShardId, tuple[MailboxId, ...]], Awaitable[States]]
Forget = Callable[[ShardId, tuple[MailboxId, ...]], Awaitable[None]]


class _Followed:
    """One mailbox that somebody here listens to."""

    def __init__(self, shard: ShardId) -> None:
        self.shard = shard
        self.listeners: list[Listener] = []
        self.state: MailboxState | None = None
        self.told_at = 0.0


class PushHub:
    """The gateway's side: listeners by mailbox, kept subscribed at every beat."""

    def __init__(self, renew: Renew, forget: Forget) -> None:
        self._renew = renew
        self._forget = forget
        self._followed: dict[MailboxId, _Followed] = {}
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def subscribe(
        self, shard: ShardId, mailbox: MailboxId, listener: Listener
    ) -> Callable[[], None]:
        """Add a listener, tell it the present states, and return the function that ends it."""
        states = await self._renew(shard, (mailbox,))
        followed = self._followed.setdefault(mailbox, _Followed(shard))
        followed.shard = shard
        followed.listeners.append(listener)
        for state in states.states:
            self.heard(state)
        if followed.state is not None:
            listener(followed.state)
        if self._task is None:
            self._task = asyncio.create_task(self._beat_forever(), name="push beat")

        def end() -> None:
            if listener in followed.listeners:
                followed.listeners.remove(listener)
            if not followed.listeners and self._followed.get(mailbox) is followed:
                del self._followed[mailbox]
                task = asyncio.create_task(self._let_go(followed.shard, mailbox))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        return end

    async def _let_go(self, shard: ShardId, mailbox: MailboxId) -> None:
        try:
            await self._forget(shard, (mailbox,))
        except MailError:
            return  # It ends by itself when it is not renewed.

    def heard(self, state: MailboxState) -> None:
        """Take a state that came in by a notification or a beat; older ones are ignored."""
        followed = self._followed.get(state.mailbox)
        if followed is None:
            return
        known = followed.state
        if known is not None and _order(state) <= _order(known):
            return
        followed.state = state
        self._tell(followed)

    def _tell(self, followed: _Followed) -> None:
        assert followed.state is not None
        followed.told_at = asyncio.get_running_loop().time()
        for listener in list(followed.listeners):
            try:
                listener(followed.state)
            except Exception as error:  # It must not end the beat, nor be in the others' way.
                log.error("listener failed", mailbox=followed.state.mailbox, error=repr(error))

    async def _beat_forever(self) -> None:
        while True:
            ok = await self._beat()
            await asyncio.sleep(BEAT_S if ok else BEAT_AFTER_FAILURE_S)

    async def _beat(self) -> bool:
        by_shard: dict[ShardId, list[MailboxId]] = {}
        for mailbox, followed in self._followed.items():
            by_shard.setdefault(followed.shard, []).append(mailbox)
        answers = await asyncio.gather(
            *(self._renew(shard, tuple(mailboxes)) for shard, mailboxes in by_shard.items()),
            return_exceptions=True,
        )
        now = asyncio.get_running_loop().time()
        for answer in answers:
            if isinstance(answer, BaseException):
                continue
            for state in answer.states:
                self.heard(state)
                known = self._followed.get(state.mailbox)
                # Only what was heard just now: a repeat of old states would hide that the
                # mailbox is away, and what happens there meanwhile.
                if known is not None and now - known.told_at >= SILENT_S_MAX:
                    self._tell(known)
        return not any(isinstance(answer, BaseException) for answer in answers)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def _order(state: MailboxState) -> int:
    return max(state.email, state.folder, state.thread)
