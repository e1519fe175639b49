"""Turns of a mailbox: pure plans over its writer. `actors/mailbox.py` commits them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from actors import wire
from actors.commands import BlobStored, Deliver, Delivered, Done, ExpectRepeat, Reply
from mail.errors import NoSuchMailbox
from storage import keys, records
from storage.mailbox_writer import MailboxWriter
from storage.records import ReplyRecord
from storage.shard import REPLIES_KEPT_MS, Plan, Planned
from storage.transaction import Overlay

# Records of a removed mailbox that one turn destroys: some milliseconds.
KEYS_REMOVED_AT_ONCE = 1000

WriterPlan = Callable[[MailboxWriter, int], bytes]


def mailbox_plan(mailbox: int, turn: WriterPlan) -> Plan:
    """Return the shard's plan for one turn of a mailbox, which is made when it is first used.

    Raises NoSuchMailbox for a mailbox that was removed.
    """

    def plan(overlay: Overlay, now_ms: int) -> Planned:
        writer = MailboxWriter(mailbox, overlay, now_ms)
        if overlay.get(keys.info(mailbox)) is None:
            writer.create(now_ms)
        elif writer.info.removed:
            raise NoSuchMailbox
        reply = turn(writer, now_ms)
        writer.finish()
        return Planned(reply, tuple(writer.blobs), tuple(writer.index_emails))

    return plan


def encoded(reply: Reply) -> bytes:
    """Return a reply as the shard remembers it."""
    return wire.encode([reply])


def decoded(octets: bytes) -> Reply:
    """Return a remembered reply."""
    return wire.decode_replies(octets)[0]


def deliver(command: Deliver, digest: bytes) -> WriterPlan:
    """Return the turn that stores a message, or matches it with the one it repeats."""

    def turn(writer: MailboxWriter, now_ms: int) -> bytes:
        repeated = writer.take_repeat(command.fingerprint, now_ms)
        if repeated is not None:
            return encoded(Delivered(repeated, repeated=True))
        writer.expect_room(len(command.raw), command.quota_bytes)
        folder = writer.folder_with_role(command.role) or writer.folder_with_role("inbox")
        assert folder is not None, "a mailbox without an inbox"
        email_id = writer.add_email(
            digest=digest,
            size_bytes=len(command.raw),
            summary=command.summary,
            received_at_ms=command.received_at_ms,
            folders=(folder,),
            keywords=command.keywords,
        )
        return encoded(Delivered(email_id))

    return turn


def expect_repeat(command: ExpectRepeat) -> Plan:
    """Return the plan that marks a stored delivery as one to be repeated, or fences it."""

    def plan(overlay: Overlay, now_ms: int) -> Planned:
        name = keys.reply(command.mailbox, command.delivery)
        octets = overlay.get(name)
        if octets is None:
            overlay.put(name, records.encode(ReplyRecord(b"", now_ms)))
        else:
            remembered = records.decode(octets, ReplyRecord).reply
            reply = decoded(remembered) if remembered else None
            if isinstance(reply, Delivered):
                MailboxWriter(command.mailbox, overlay).expect_repeat(
                    command.fingerprint, reply.email_id, now_ms, now_ms + REPLIES_KEPT_MS
                )
        return Planned(encoded(Done()))

    return plan


def put_blob(digest: bytes, size_bytes: int, blob_id: str) -> WriterPlan:
    """Return the turn that lets the mailbox read an upload."""

    def turn(writer: MailboxWriter, now_ms: int) -> bytes:
        writer.own_upload(digest, size_bytes, now_ms)
        return encoded(BlobStored(blob_id, size_bytes))

    return turn


def count_unread(counted: int, email_modseq: int) -> WriterPlan:
    """Return the turn that begins to keep count, if nothing has changed since it was counted."""

    def turn(writer: MailboxWriter, now_ms: int) -> bytes:
        if writer.info.unread < 0 and writer.info.email_modseq == email_modseq:
            writer.set_unread(counted)
        return encoded(Done())

    return turn


def remove(mailbox: int) -> Plan:
    """Return the plan that marks a mailbox as removed: from now on it is refused."""

    def plan(overlay: Overlay, now_ms: int) -> Planned:
        mark = records.MailboxRecord(created_at_ms=now_ms, uid_validity=0, removed=True)
        overlay.put(keys.info(mailbox), records.encode(mark))
        return Planned(encoded(Done()))

    return plan


def remove_some(mailbox: int, after: bytes) -> Plan:
    """Return the plan that destroys some records of a removed mailbox, those after a key.

    Its reply is the last key that it destroyed, empty when nothing is left but the mark.
    """

    def plan(overlay: Overlay, now_ms: int) -> Planned:
        prefix, mark = keys.mailbox(mailbox), keys.info(mailbox)
        octets = overlay.get(mark)
        assert octets is not None
        assert records.decode(octets, records.MailboxRecord).removed
        found = overlay.scan(max(prefix, after), keys.after(prefix))
        doomed = [key for key, _ in islice(found, KEYS_REMOVED_AT_ONCE) if key != mark]
        for key in doomed:
            overlay.delete(key)
        states = keys.kind(mailbox, b"k")
        emails = (key[len(states) :] for key in doomed if key.startswith(states))
        return Planned(
            doomed[-1] if doomed else b"",
            emails=tuple(int.from_bytes(number, "big") for number in emails),
        )

    return plan
