"""Turns of a mailbox: pure plans over its writer. `actors/mailbox.py` commits them."""

from __future__ import annotations

from collections.abc import Callable

from actors import wire
from actors.commands import BlobStored, Deliver, Delivered, Done, ExpectRepeat, Reply
from mail.errors import NoSuchMailbox
from storage import keys, records
from storage.mailbox_writer import MailboxWriter
from storage.records import ReplyRecord
from storage.shard import REPLIES_KEPT_MS, Plan, Planned
from storage.transaction import Overlay

WriterPlan = Callable[[MailboxWriter, int], bytes]


def mailbox_plan(mailbox: int, turn: WriterPlan) -> Plan:
    """Return the shard's plan for one turn of a mailbox, which is made when it is first used.

    Raises NoSuchMailbox for a mailbox that was removed.
    """

    def plan(overlay: Overlay, now_ms: int) -> Planned:
        writer = MailboxWriter(mailbox, overlay)
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


def remove(mailbox: int) -> Plan:
    """Return the plan that destroys all of a mailbox and leaves a mark that it was removed."""

    def plan(overlay: Overlay, now_ms: int) -> Planned:
        prefix = keys.mailbox(mailbox)
        emails = []
        email_prefix = keys.kind(mailbox, b"k")
        for key, _ in list(overlay.scan(prefix, keys.after(prefix))):
            if key.startswith(email_prefix):
                emails.append(int.from_bytes(key[len(email_prefix) :], "big"))
            overlay.delete(key)
        mark = records.MailboxRecord(created_at_ms=now_ms, uid_validity=0, removed=True)
        overlay.put(keys.info(mailbox), records.encode(mark))
        return Planned(encoded(Done()), emails=tuple(emails))

    return plan
