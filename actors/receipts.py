"""Receipts: where in the log a message was committed, and which replicas have that on disk."""

from __future__ import annotations

import asyncio

from actors.commands import Receipt
from actors.jmap.ids import email_id_of, parse_email_id
from mail.errors import Invalid, NotFound
from storage.mailbox_reader import MailboxReader
from storage.records import EmailRecord
from storage.replica import Replica

# Messages looked at before others have their turn: some 2 ms.
LOOKED_AT_ONCE = 100
MATCHES_NAMED_MAX = 10


async def receipt(reader: MailboxReader, replica: Replica, message: str) -> Receipt:
    """Return the receipt of the message that an id or a Message-ID names.

    Raises NotFound; Invalid when several messages have that Message-ID.
    """
    email = await _find(reader, message.strip())
    core = replica.core
    followers = {} if core.reign is None else core.reign.followers
    return Receipt(
        email_id=email.email_id,
        epoch=email.epoch,
        index=email.index,
        applied_index=replica.applied.index,
        flushed=(
            (core.replica, core.flushed_index),
            *((follower, progress.match_index) for follower, progress in followers.items()),
        ),
    )


async def _find(reader: MailboxReader, message: str) -> EmailRecord:
    number = parse_email_id(message)
    found = None if number is None else reader.email(number)
    if found is not None:
        return found
    matches = await _with_message_id(reader, message.removeprefix("<").removesuffix(">"))
    if not matches:
        raise NotFound(f"no message {message} in this mailbox")
    if len(matches) > 1:
        ids = ", ".join(email_id_of(one.email_id) for one in matches)
        raise Invalid(f"several messages have this Message-ID, ask for one of {ids}")
    return matches[0]


async def _with_message_id(reader: MailboxReader, message_id: str) -> list[EmailRecord]:
    """Return the newest messages with a Message-ID (RFC 5322 §3.6.4).

    Nothing is listed by it alone, so that all messages of the mailbox are read.
    """
    found: list[EmailRecord] = []
    for looked_at, line in enumerate(reader.listing()):
        email = reader.email(line.email_id)
        if email is not None and message_id in (email.summary.message_id or ()):
            found.append(email)
            if len(found) == MATCHES_NAMED_MAX:
                break
        if looked_at % LOOKED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return found
