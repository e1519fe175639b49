"""Exporting: what an export asks of a mailbox, read from its committed state."""

from __future__ import annotations

from actors.transfer_commands import (
    AskKnown,
    FolderRow,
    FoldersListed,
    KnownAnswer,
    ListMessages,
    MessageRow,
    MessagesListed,
    MessagesRead,
    ReadMessages,
)
from actors.transfer_turns import Folders, is_known
from mail.errors import BlobDamaged, NotFound
from mail.folder_path import FolderPath
from storage.mailbox_reader import Blobs, MailboxReader
from storage.records import FolderRecord

# Rows and octets of one answer: some 10 ms of the shard's time.
ROWS_MAX = 500
BYTES_MAX = 1 << 22
DIGESTS_MAX = 500


def known(reader: MailboxReader, command: AskKnown) -> KnownAnswer:
    """Say which messages are in their folders already."""
    folders = Folders(reader)
    return KnownAnswer(
        tuple(
            is_known(reader, message.digest, [folders.find(path) for path in message.folders])
            for message in command.messages
        )
    )


def folders(reader: MailboxReader) -> FoldersListed:
    """Return all folders with their paths, parents first."""
    records = reader.folders()
    rows = [
        FolderRow(
            number,
            FolderPath(_names(records, number), record.role),
            record.uid_validity,
            reader.counters(number).total_emails,
        )
        for number, record in records.items()
    ]
    return FoldersListed(tuple(sorted(rows, key=lambda row: (len(row.path.names), row.folder))))


def _names(records: dict[int, FolderRecord], number: int | None) -> tuple[str, ...]:
    names: list[str] = []
    while number is not None and number in records and len(names) <= len(records):
        names.append(records[number].name)
        number = records[number].parent
    return tuple(reversed(names))


def messages(reader: MailboxReader, command: ListMessages) -> MessagesListed:
    """Return some messages of a folder in the order of UIDs. Raises NotFound."""
    if reader.folder(command.folder) is None:
        raise NotFound("no such folder")
    limit = max(1, min(command.limit_max, ROWS_MAX))
    rows: list[MessageRow] = []
    for uid, email_id in reader.uids(command.folder, after=command.after_uid):
        if len(rows) == limit:
            return MessagesListed(tuple(rows), more=True)
        email, state = reader.email(email_id), reader.email_state(email_id)
        assert email is not None, "a UID without an email"
        assert state is not None, "an email without a state"
        authors = email.summary.from_ or email.summary.sender or ()
        rows.append(
            MessageRow(
                uid,
                email.digest,
                email.size_bytes,
                email.received_at_ms,
                state.keywords,
                authors[0].email if authors else "",
            )
        )
    return MessagesListed(tuple(rows), more=False)


def read(reader: MailboxReader, blobs: Blobs, command: ReadMessages) -> MessagesRead:
    """Return the octets of the first messages, as far as `bytes_max` goes."""
    left = min(command.bytes_max, BYTES_MAX)
    found: list[bytes | None] = []
    for digest in command.digests[:DIGESTS_MAX]:
        owner = reader.blob_owner(digest)
        try:
            size = blobs.size(digest) if owner is not None and owner.emails else None
            left -= size or 0
            if left < 0:
                break
            found.append(None if size is None else blobs.read(digest))
        except BlobDamaged:
            break  # Who reads it alone is told.
    return MessagesRead(tuple(found))
