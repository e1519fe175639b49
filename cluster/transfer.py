"""Transfer: messages from elsewhere into a mailbox, and a mailbox out, in bounded pieces.

Messages are parsed here, in a thread, and go to the shard as they came. A command that is not
answered is repeated by its request id; an import as a whole may be given again at any time,
since what is there is not stored twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from actors.asking import ask
from actors.commands import (
    DIRECTORY_SHARD,
    Account,
    BlobData,
    Command,
    Done,
    GetAccount,
    GetBlob,
)
from actors.jmap.ids import blob_id_of
from actors.ports import Transport
from actors.request_ids import new_request_id
from actors.transfer_commands import (
    AskKnown,
    EmailsImported,
    FoldersListed,
    ImportedEmail,
    ImportEmails,
    ImportOutcome,
    Known,
    KnownAnswer,
    ListFolders,
    ListMessages,
    MakeFolders,
    MessagesListed,
    MessagesRead,
    ReadMessages,
)
from mail.errors import MessageTooLarge, Overloaded
from mail.folder_path import FolderPath
from mail.message import parse

# Messages of one turn: some 20 ms of the shard's time, which others wait for.
EMAILS_AT_ONCE = 50
BYTES_AT_ONCE = 4 << 20
# How long an overloaded or restarting shard is waited for before the operator is told.
WAIT_S_MAX = 60.0
OVERLOADED_PAUSE_S = 0.5

ReplyT = TypeVar("ReplyT")


class Incoming(msgspec.Struct, frozen=True, array_like=True):
    """One message of an import, between the command line and here."""

    raw: bytes
    received_at_ms: int
    folders: tuple[FolderPath, ...]
    keywords: tuple[str, ...] = ()


class Transfer:
    """Carries mail between the control listener and the shards."""

    def __init__(self, transport: Transport, *, size_bytes_max: int) -> None:
        self._transport = transport
        self.size_bytes_max = size_bytes_max

    async def known(self, address: str, messages: Sequence[Known]) -> tuple[bool, ...]:
        """Say which messages are in their folders already. Raises NotFound."""
        account = await self._account(address)
        command = AskKnown(account.mailbox, tuple(messages))
        return (await self._ask(account, command, KnownAnswer)).known

    async def store(self, address: str, messages: Sequence[Incoming]) -> list[ImportOutcome]:
        """Store what is not there yet; return an outcome a message, none after an OverQuota.

        Raises NotFound, MessageTooLarge; Unavailable when some may have been stored.
        """
        if any(len(one.raw) > self.size_bytes_max for one in messages):
            raise MessageTooLarge
        account = await self._account(address)
        outcomes: list[ImportOutcome] = []
        portions = list(_portions(messages))
        parsing = _parsing(portions[:1])
        for number, some in enumerate(portions, 1):
            emails = await parsing
            # While the shard works on one portion, the next is parsed.
            parsing = _parsing(portions[number : number + 1])
            command = ImportEmails(account.mailbox, new_request_id(), emails, account.quota_bytes)
            reply = await self._ask(account, command, EmailsImported)
            outcomes.extend(reply.outcomes)
            if len(reply.outcomes) < len(some) or reply.outcomes[-1].outcome == "OverQuota":
                break
        return outcomes

    async def make_folders(self, address: str, folders: Sequence[FolderPath]) -> None:
        """Make the folders that are not there yet. Raises NotFound, Invalid."""
        account = await self._account(address)
        command = MakeFolders(account.mailbox, new_request_id(), tuple(folders))
        await self._ask(account, command, Done)

    async def folders(self, address: str) -> FoldersListed:
        """Return all folders. Raises NotFound."""
        account = await self._account(address)
        return await self._ask(account, ListFolders(account.mailbox), FoldersListed)

    async def messages(self, address: str, folder: int, after_uid: int) -> MessagesListed:
        """Return some messages of a folder. Raises NotFound."""
        account = await self._account(address)
        command = ListMessages(account.mailbox, folder, after_uid)
        return await self._ask(account, command, MessagesListed)

    async def read(self, address: str, digests: Sequence[bytes]) -> MessagesRead:
        """Return the octets of the first of these messages. Raises NotFound."""
        account = await self._account(address)
        command = ReadMessages(account.mailbox, tuple(digests))
        return await self._ask(account, command, MessagesRead)

    async def piece(self, address: str, digest: bytes, offset: int) -> bytes:
        """Return octets of one message from `offset`, none at its end. Raises NotFound."""
        account = await self._account(address)
        command = GetBlob(account.mailbox, blob_id_of(digest), offset)
        return (await self._ask(account, command, BlobData)).data

    async def _account(self, address: str) -> Account:
        return await ask(self._transport, DIRECTORY_SHARD, GetAccount(address), Account)

    async def _ask(self, account: Account, command: Command, expected: type[ReplyT]) -> ReplyT:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAIT_S_MAX
        while True:
            left_s = max(0.1, deadline - loop.time())
            try:
                return await ask(
                    self._transport, account.shard, command, expected, timeout_s=left_s
                )
            except Overloaded:  # Mail that comes in goes first.
                if loop.time() + OVERLOADED_PAUSE_S >= deadline:
                    raise
            await asyncio.sleep(OVERLOADED_PAUSE_S)


def _parsing(portions: Sequence[Sequence[Incoming]]) -> asyncio.Future[tuple[ImportedEmail, ...]]:
    """Begin to parse a portion, if there is one, in a thread."""

    def parse_all() -> tuple[ImportedEmail, ...]:
        return tuple(_parsed(message) for portion in portions for message in portion)

    return asyncio.ensure_future(asyncio.to_thread(parse_all))


def _parsed(message: Incoming) -> ImportedEmail:
    found = parse(message.raw)
    return ImportedEmail(
        message.raw,
        found.summary,
        found.search_text,
        message.received_at_ms,
        message.folders,
        message.keywords,
    )


def _portions(messages: Sequence[Incoming]) -> Iterator[list[Incoming]]:
    """Yield what goes in one command: some messages, or a single large one."""
    portion: list[Incoming] = []
    size_bytes = 0
    for message in messages:
        size_bytes += len(message.raw)
        if portion and (len(portion) == EMAILS_AT_ONCE or size_bytes > BYTES_AT_ONCE):
            yield portion
            portion, size_bytes = [], len(message.raw)
        portion.append(message)
    if portion:
        yield portion
