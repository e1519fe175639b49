"""Router: the ports of the gateways, over a transport.

Finds the shard of an account through the directory, carries commands to it, and repeats them
by request id while their fate is unknown. Deliveries that wait for one shard travel together
in one call.

State       soft: what the directory said (`actors/directory_client.py`); calls on the way.
On failure  Unavailable and its kind: the operation may still have happened (R11).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence

import structlog

from actors import wire
from actors.asking import ask
from actors.commands import (
    Account,
    BlobData,
    BlobStored,
    Deliver,
    Delivered,
    Done,
    ExpectRepeat,
    Failed,
    GatewayId,
    GetBlob,
    Jmap,
    JmapAnswer,
    MailboxId,
    MailboxShown,
    MailboxState,
    Notify,
    PutBlob,
    Reply,
    ShardId,
    ShowMailbox,
    States,
    Subscribe,
    Unsubscribe,
)
from actors.directory_client import DirectoryClient
from actors.lane import Lane
from actors.ports import Destination, Letter, Transport
from actors.push import SUBSCRIPTION_TTL_MS, PushHub
from actors.request_ids import new_request_id
from mail.errors import (
    MailboxFull,
    MailError,
    OutcomeUnknown,
    Unavailable,
)

log = structlog.get_logger()

REPEATS_WAITING_MAX = 10_000
# A shard that is away or overloaded is told of a repeat so long: peers come again for days, but
# what waits here is lost with the gateway anyway.
EXPECT_S_MAX, EXPECT_PAUSE_S = 3600.0, 10.0
CLOSE_S_MAX = 2.0


class Router(DirectoryClient):
    """SignIns, Mail and Push for one gateway."""

    def __init__(self, transport: Transport, gateway: str) -> None:
        super().__init__(transport)
        self._gateway = GatewayId(gateway)
        self._lanes: dict[ShardId, Lane] = {}
        self._hub = PushHub(self._renew, self._forget)
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Stop following; what peers will repeat is told to shards that serve, no more."""
        await self._hub.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S_MAX)
        for task in self._tasks:
            task.cancel()
        await super().close()

    # Mail

    async def deliver(self, letter: Letter, destinations: Sequence[Destination]) -> None:
        """Store one message for all destinations (`actors.ports.Mail`)."""
        fingerprint = _fingerprint(letter)
        commands = [
            Deliver(
                mailbox=destination.account.mailbox,
                request_id=new_request_id(),
                raw=destination.trace + letter.received,
                summary=letter.summary,
                search_text=letter.search_text,
                received_at_ms=letter.received_at_ms,
                fingerprint=fingerprint,
                quota_bytes=destination.account.quota_bytes,
            )
            for destination in destinations
        ]
        shards = [destination.account.shard for destination in destinations]
        try:
            results = await asyncio.gather(
                *(
                    self._lane(shard).deliver(command)
                    for shard, command in zip(shards, commands, strict=True)
                )
            )
        except asyncio.CancelledError:
            # The peer went away without an answer: it will come again.
            self._expect_repeats(list(zip(shards, commands, strict=True)))
            raise
        failures = [failure for result in results if (failure := _failure(result))]
        if not failures:
            return
        undecided = [
            (shard, command)
            for shard, command, result in zip(shards, commands, results, strict=True)
            if isinstance(result, Delivered) or isinstance(_failure(result), OutcomeUnknown)
        ]
        temporary = [failure for failure in failures if isinstance(failure, Unavailable)]
        if not temporary and not undecided:
            raise failures[0]
        self._expect_repeats(undecided)
        raise temporary[0] if temporary else Unavailable()

    async def expect_room(self, account: Account, size_bytes: int) -> None:
        """Say whether a message would have room (`actors.ports.Mail`)."""
        if not account.quota_bytes:
            return
        command = ShowMailbox(account.mailbox)
        shown = await ask(self._transport, account.shard, command, MailboxShown)
        if shown.size_bytes + max(1, size_bytes) > account.quota_bytes:
            raise MailboxFull

    def _lane(self, shard: ShardId) -> Lane:
        lane = self._lanes.get(shard)
        if lane is None:
            lane = self._lanes[shard] = Lane(self._transport, shard)
        return lane

    def _expect_repeats(self, deliveries: Sequence[tuple[ShardId, Deliver]]) -> None:
        """See to it that the peer's repeat does not double what had arrived (R18)."""
        for shard, delivery in deliveries:
            if len(self._tasks) >= REPEATS_WAITING_MAX:
                log.warning("a repeat may be doubled", shard=shard, error="too many wait")
                continue
            task = asyncio.create_task(self._expect_repeat(shard, delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _expect_repeat(self, shard: ShardId, delivery: Deliver) -> None:
        command = ExpectRepeat(
            delivery.mailbox, new_request_id(), delivery.request_id, delivery.fingerprint
        )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + EXPECT_S_MAX
        while True:
            try:
                await ask(self._transport, shard, command, Done)
                return
            except Unavailable as error:
                if loop.time() + EXPECT_PAUSE_S >= deadline:
                    log.warning("a repeat may be doubled", shard=shard, error=type(error).__name__)
                    return
            except MailError:
                return  # The mailbox is gone, and with it what could be doubled.
            await asyncio.sleep(EXPECT_PAUSE_S)

    async def jmap(
        self,
        account: Account,
        request: bytes,
        *,
        session_state: str = "",
        read_only: bool = False,
        may_submit: bool = True,
    ) -> JmapAnswer:
        """Evaluate a JMAP request next to the data (`actors.ports.Mail`)."""
        command = Jmap(
            account.mailbox, new_request_id(), request, session_state, read_only, may_submit
        )
        return await ask(self._transport, account.shard, command, JmapAnswer)

    async def upload(self, account: Account, data: bytes) -> BlobStored:
        """Store an upload (`actors.ports.Mail`)."""
        command = PutBlob(account.mailbox, new_request_id(), data)
        return await ask(self._transport, account.shard, command, BlobStored)

    async def download(self, account: Account, blob_id: str, *, offset: int = 0) -> BlobData:
        """Return a piece of a blob (`actors.ports.Mail`)."""
        command = GetBlob(account.mailbox, blob_id, offset)
        return await ask(self._transport, account.shard, command, BlobData)

    # Push

    async def subscribe(
        self, account: Account, listener: Callable[[MailboxState], None]
    ) -> Callable[[], None]:
        """Follow a mailbox (`actors.ports.Push`)."""
        return await self._hub.subscribe(account.shard, account.mailbox, listener)

    def notified(self, frame: bytes) -> None:
        """Take a frame of notifications from a mailbox actor."""
        for command in wire.decode_commands(frame):
            if isinstance(command, Notify):
                for state in command.states:
                    self._hub.heard(state)

    async def _renew(self, shard: ShardId, mailboxes: tuple[MailboxId, ...]) -> States:
        command = Subscribe(self._gateway, mailboxes, SUBSCRIPTION_TTL_MS)
        return await ask(self._transport, shard, command, States, timeout_s=5.0)

    async def _forget(self, shard: ShardId, mailboxes: tuple[MailboxId, ...]) -> None:
        await ask(
            self._transport, shard, Unsubscribe(self._gateway, mailboxes), Done, timeout_s=5.0
        )


def _fingerprint(letter: Letter) -> bytes:
    """Return what a peer's repeat of the same transaction has in common with it."""
    received = hashlib.sha256(letter.received).digest()
    return hashlib.sha256(letter.mail_from.encode("utf-8", "replace") + b"\0" + received).digest()


def _failure(reply: Reply) -> MailError | None:
    """Return what went wrong with one delivery, or None."""
    if isinstance(reply, Delivered):
        return None
    return wire.raised(reply) if isinstance(reply, Failed) else OutcomeUnknown()
