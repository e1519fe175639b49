"""Mailbox: the actor that owns the mailboxes of one shard.

Orders their turns, commits them, answers reads next to the data, tells gateways of new
states. It decides nothing of what mail is: turns are in `actors/mailbox_turns.py`, JMAP in
`actors/jmap/`, the commit in `storage/shard.py`.

State       hard: the shard.  soft: subscriptions, texts that wait for the search index.
On success  what was changed is durable on a quorum and visible to later reads.
On failure  it may still have happened. Repeat with the same request id.
Raises      (as Failed) Overloaded, DiskFull, ShardDamaged, NotPrimary (temporary);
            NoSuchMailbox, NotFound, Invalid (permanent).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from actors import exporting, mailbox_turns, receipts, transfer_turns, wire
from actors.blob_reader import BlobReader
from actors.commands import (
    Command,
    Deliver,
    Delivered,
    Done,
    ExpectRepeat,
    GatewayId,
    GetBlob,
    Jmap,
    MailboxId,
    MailboxShown,
    MailboxState,
    Notify,
    PutBlob,
    RemoveMailbox,
    Reply,
    ShowMailbox,
    ShowReceipt,
    States,
    Subscribe,
    Unsubscribe,
)
from actors.expiry import Expiry
from actors.jmap.columns import ColumnCache, Columns
from actors.jmap.ids import blob_id_of
from actors.jmap.request import evaluate
from actors.push import Subscriptions
from actors.shard_host import ShardHost
from actors.transfer_commands import (
    AskKnown,
    EmailsImported,
    ImportEmails,
    ListFolders,
    ListMessages,
    MakeFolders,
    ReadMessages,
)
from actors.upkeep import Upkeep
from actors.upkeep_commands import BeginUpkeep, ShowUpkeep
from mail.errors import Invalid, NoSuchMailbox
from mail.folders import JUNK, TRASH
from mail.keywords import is_unread
from storage.blobs import digest_of
from storage.indexer import Indexer
from storage.mailbox_reader import Blobs, MailboxReader
from storage.mailbox_writer import MailboxWriter
from storage.replica_directory import ReplicaDirectory
from storage.replica_ports import Applying
from storage.shard import Plan, Shard

# Lines looked at before others have their turn: some 2 ms.
COUNTED_AT_ONCE = 500


class Mailbox(ShardHost):
    """Owner of one shard of mailboxes."""

    _indexer: Indexer | None = None
    _expiry: Expiry | None = None
    _upkeep: Upkeep | None = None

    async def opened(self, shard: Shard) -> None:
        index = ReplicaDirectory(Path(self.options.path)).index
        self._indexer = await asyncio.to_thread(Indexer, shard, index)
        self._indexer.start()
        days = {TRASH: self.options.trash_days, JUNK: self.options.junk_days}
        self._expiry = Expiry(shard, days)
        self._expiry.start(self.options.shard)
        self.columns = ColumnCache()
        self._upkeep = Upkeep(
            shard,
            self._indexer,
            audit_hours=self.options.audit_hours,
            collect_hours=self.options.collect_hours,
            on_damaged=self.out_of_service,
            on_repaired=self.columns.forget,
        )
        self._upkeep.start(self.options.shard)
        self._blob_reader = BlobReader(shard.blobs)
        self._subscriptions = Subscriptions()
        self._dirty: dict[MailboxId, None] = {}
        self._notifying: asyncio.Task[None] | None = None

    @property
    def indexer(self) -> Indexer:
        assert self._indexer is not None, "used before the shard was opened"
        return self._indexer

    @property
    def expiry(self) -> Expiry:
        assert self._expiry is not None, "used before the shard was opened"
        return self._expiry

    @property
    def upkeep(self) -> Upkeep:
        assert self._upkeep is not None, "used before the shard was opened"
        return self._upkeep

    def applied(self, entries: Sequence[Applying]) -> None:
        self.indexer.applied(entries)
        for entry in entries:
            if entry.mailbox:
                self._dirty[MailboxId(entry.mailbox)] = None
        if self._notifying is None or self._notifying.done():
            self._notifying = asyncio.create_task(self._notify(), name="notify")

    def busy(self) -> bool:
        return self.indexer.pending > 0 or self.upkeep.is_working

    async def _notify(self) -> None:
        """Tell the followers of what changed; one call a gateway, whatever has gathered."""
        while self._dirty:
            dirty, self._dirty = list(self._dirty), {}
            now_ms = _now_ms()
            notices: dict[GatewayId, list[MailboxState]] = {}
            for mailbox in dirty:
                for gateway in self._subscriptions.followers(mailbox, now_ms):
                    notices.setdefault(gateway, []).append(self._state(mailbox))
            for gateway, states in notices.items():
                frame = wire.encode([Notify(tuple(states))])
                self.notices.notify(gateway, frame)

    async def answer(self, command: Command) -> Reply:
        match command:
            case Deliver():
                return await self._deliver(command)
            case Jmap():
                await self._ensure(command.mailbox)
                return await evaluate(
                    MailboxAccess(self, command.mailbox),
                    command.request,
                    request_id=command.request_id,
                    session_state=command.session_state,
                    read_only=command.read_only,
                    may_submit=command.may_submit,
                )
            case GetBlob():
                await self._ensure(command.mailbox)
                reader = self.reader(command.mailbox)
                return await self._blob_reader.read(reader, command, now_ms=_now_ms())
            case PutBlob():
                return await self._put_blob(command)
            case ExpectRepeat():
                plan = mailbox_turns.expect_repeat(command)
                return await self._run(command.mailbox, command.request_id, plan)
            case Subscribe():
                until_ms = _now_ms() + command.ttl_ms
                self._subscriptions.add(command.gateway, command.mailboxes, until_ms)
                return States(tuple(self._state(mailbox) for mailbox in command.mailboxes))
            case Unsubscribe():
                self._subscriptions.remove(command.gateway, command.mailboxes)
                return Done()
            case ShowMailbox():
                return await self._show(command.mailbox)
            case ShowReceipt():
                reader = MailboxReader(command.mailbox, self.shard.state)
                return await receipts.receipt(reader, self.shard.replica, command.message)
            case ImportEmails():
                return await self._import(command)
            case MakeFolders():
                turn = transfer_turns.make_folders(command)
                plan = mailbox_turns.mailbox_plan(command.mailbox, turn)
                return await self._run(command.mailbox, command.request_id, plan)
            case AskKnown() | ListFolders() | ListMessages() | ReadMessages():
                return await self._export(command)
            case BeginUpkeep():
                return self.upkeep.begin(command)
            case ShowUpkeep():
                return self.upkeep.show(command.job)
            case RemoveMailbox():
                plan = mailbox_turns.remove(command.mailbox)
                reply = await self._run(command.mailbox, command.request_id, plan)
                self.expiry.remove(command.mailbox)
                self.columns.forget(command.mailbox)
                return reply
            case _:
                raise Invalid(f"{type(command).__name__} is not for a mailbox")

    async def _run(
        self,
        mailbox: MailboxId,
        request_id: bytes,
        plan: Plan,
        blobs: dict[bytes, bytes] | None = None,
    ) -> Reply:
        octets = await self.shard.run(mailbox, request_id, plan, blobs=blobs)
        return mailbox_turns.decoded(octets)

    async def _deliver(self, command: Deliver) -> Reply:
        digest = digest_of(command.raw)
        plan = mailbox_turns.mailbox_plan(command.mailbox, mailbox_turns.deliver(command, digest))
        reply = await self._run(command.mailbox, command.request_id, plan, {digest: command.raw})
        # The mailbox may have been closed meanwhile; the mail is safe and is so answered.
        if isinstance(reply, Delivered) and not reply.repeated and self._indexer is not None:
            self._indexer.expect(command.mailbox, reply.email_id, command.search_text)
        return reply

    async def _import(self, command: ImportEmails) -> Reply:
        blobs = {digest_of(email.raw): email.raw for email in command.emails}
        turn = transfer_turns.import_emails(command, [digest_of(e.raw) for e in command.emails])
        plan = mailbox_turns.mailbox_plan(command.mailbox, turn)
        reply = await self._run(command.mailbox, command.request_id, plan, blobs)
        if isinstance(reply, EmailsImported) and self._indexer is not None:
            for email, one in zip(command.emails, reply.outcomes, strict=False):
                if one.outcome == "stored":
                    self._indexer.expect(command.mailbox, one.email_id, email.search_text)
        return reply

    async def _export(self, command: AskKnown | ListFolders | ListMessages | ReadMessages) -> Reply:
        await self._ensure(command.mailbox)
        reader = self.reader(command.mailbox)
        match command:
            case AskKnown():
                return exporting.known(reader, command)
            case ListFolders():
                return exporting.folders(reader)
            case ListMessages():
                return exporting.messages(reader, command)
            case ReadMessages():
                return exporting.read(reader, self.shard.blobs, command)

    async def _put_blob(self, command: PutBlob) -> Reply:
        digest = digest_of(command.data)
        turn = mailbox_turns.put_blob(digest, len(command.data), blob_id_of(digest))
        plan = mailbox_turns.mailbox_plan(command.mailbox, turn)
        return await self._run(command.mailbox, command.request_id, plan, {digest: command.data})

    async def _ensure(self, mailbox: MailboxId) -> None:
        """Make a mailbox that is used for the first time. Raises NoSuchMailbox when removed."""
        reader = MailboxReader(mailbox, self.shard.state)
        if not reader.exists:
            plan = mailbox_turns.mailbox_plan(mailbox, _nothing)
            await self.shard.run(mailbox, b"", plan)

    def reader(self, mailbox: MailboxId) -> MailboxReader:
        """Return the committed state of a mailbox. Raises NoSuchMailbox."""
        reader = MailboxReader(mailbox, self.shard.state)
        if not reader.exists:
            raise NoSuchMailbox
        return reader

    def _state(self, mailbox: MailboxId) -> MailboxState:
        reader = MailboxReader(mailbox, self.shard.state)
        if not reader.exists:
            return MailboxState(mailbox, 0, 0, 0)
        info = reader.info
        return MailboxState(mailbox, info.email_modseq, info.folder_modseq, info.thread_modseq)

    async def _show(self, mailbox: MailboxId) -> MailboxShown:
        reader = MailboxReader(mailbox, self.shard.state)
        if not reader.exists:
            return MailboxShown(0, 0, 0)
        unread = reader.info.unread
        if unread < 0:
            unread = await self._count_unread(mailbox)
        return MailboxShown(reader.info.emails, unread, reader.info.size_bytes)

    async def _count_unread(self, mailbox: MailboxId) -> int:
        """Count once in a mailbox that an older release has made; from then on it is kept."""
        modseq = self.reader(mailbox).info.email_modseq
        unread = 0
        for looked_at, line in enumerate(self.reader(mailbox).listing()):
            unread += is_unread(line.record.keywords)
            if looked_at % COUNTED_AT_ONCE == 0:
                await asyncio.sleep(0)
        turn = mailbox_turns.count_unread(unread, modseq)
        await self.shard.run(mailbox, b"", mailbox_turns.mailbox_plan(mailbox, turn))
        return unread

    def metrics(self) -> dict[str, float]:
        found = super().metrics()
        if self._indexer is not None:
            found["index_pending"] = self._indexer.pending
            found |= self.columns.counts()
        if self._upkeep is not None and self._shard is not None:
            found |= self._upkeep.metrics()
        return found

    async def close(self) -> None:
        if self._expiry is not None:
            await self._expiry.close()
        if self._upkeep is not None:
            await self._upkeep.close()
        indexer, self._indexer = self._indexer, None
        if indexer is not None:
            if self._shard is not None:
                self._shard.replica.on_applied = lambda _: None
            await indexer.close()
        await super().close()


class MailboxAccess:
    """One mailbox, as the JMAP evaluator sees it (`actors/jmap/context.py`)."""

    def __init__(self, actor: Mailbox, mailbox: MailboxId) -> None:
        self._actor = actor
        self.mailbox_id: int = mailbox
        self.now_ms: Callable[[], int] = _now_ms

    @property
    def blobs(self) -> Blobs:
        return self._actor.shard.blobs

    @property
    def columns(self) -> Columns:
        return self._actor.columns.of(self.mailbox_id)

    def reader(self) -> MailboxReader:
        return self._actor.reader(MailboxId(self.mailbox_id))

    async def turn(self, request_id: bytes, plan: Callable[[MailboxWriter, int], bytes]) -> bytes:
        shard_plan = mailbox_turns.mailbox_plan(self.mailbox_id, plan)
        return await self._actor.shard.run(self.mailbox_id, request_id, shard_plan)

    async def search(self, fields: Collection[str], text: str) -> set[int] | None:
        return await self._actor.indexer.search(self.mailbox_id, fields, text)


def _nothing(writer: MailboxWriter, now_ms: int) -> bytes:
    return mailbox_turns.encoded(Done())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
