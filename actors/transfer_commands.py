"""Commands to a shard that carry whole mailboxes in and out (see `actors/commands.py`)."""

from __future__ import annotations

import msgspec

from actors.commands import Command, MailboxId, Reply, RequestId
from mail.folder_path import FolderPath
from mail.summary import SearchText, Summary


class ImportedEmail(msgspec.Struct, frozen=True, array_like=True):
    """One message from elsewhere, and where it belongs."""

    raw: bytes  # exactly as it will be served; no trace is added
    summary: Summary
    search_text: SearchText
    received_at_ms: int
    folders: tuple[FolderPath, ...]  # at least one; made where missing
    keywords: tuple[str, ...] = ()


class ImportEmails(Command, frozen=True):
    """Store messages that are not there yet: a message in its folder is not stored again.

    All that have room are stored in one turn; with the first that has none it ends.
    """

    mailbox: MailboxId
    request_id: RequestId
    emails: tuple[ImportedEmail, ...]
    quota_bytes: int = 0  # what the mailbox may hold with them; 0: no limit


class ImportOutcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of one message; `email_id` is 0 when it was refused."""

    outcome: str  # "stored", "placed" (in a further folder), "present", or an error's name
    email_id: int = 0
    text: str = ""  # of the error


class EmailsImported(Reply, frozen=True):
    """One outcome an email, in order; those after an OverQuota were not tried and have none."""

    outcomes: tuple[ImportOutcome, ...]


class MakeFolders(Command, frozen=True):
    """Make the folders that are not there yet, all of them or none."""

    mailbox: MailboxId
    request_id: RequestId
    folders: tuple[FolderPath, ...]


class Known(msgspec.Struct, frozen=True, array_like=True):
    """A message of a source, by the SHA-256 of its octets, and the folders it is to be in."""

    digest: bytes
    folders: tuple[FolderPath, ...]


class AskKnown(Command, frozen=True):
    """Ask which messages are in their folders already."""

    mailbox: MailboxId
    messages: tuple[Known, ...]


class KnownAnswer(Reply, frozen=True):
    known: tuple[bool, ...]


class ListFolders(Command, frozen=True):
    mailbox: MailboxId


class FolderRow(msgspec.Struct, frozen=True, array_like=True):
    folder: int
    path: FolderPath
    uid_validity: int
    emails: int


class FoldersListed(Reply, frozen=True):
    """Every folder of a mailbox, parents before their children."""

    folders: tuple[FolderRow, ...]


class ListMessages(Command, frozen=True):
    """List a folder in the order of UIDs."""

    mailbox: MailboxId
    folder: int
    after_uid: int = 0
    limit_max: int = 500


class MessageRow(msgspec.Struct, frozen=True, array_like=True):
    uid: int
    digest: bytes
    size_bytes: int
    received_at_ms: int
    keywords: tuple[str, ...]
    sender: str = ""  # address of the first author


class MessagesListed(Reply, frozen=True):
    rows: tuple[MessageRow, ...]
    more: bool


class ReadMessages(Command, frozen=True):
    """Read messages that this mailbox owns: the first ones, as far as `bytes_max` goes."""

    mailbox: MailboxId
    digests: tuple[bytes, ...]
    bytes_max: int = 1 << 22


class MessagesRead(Reply, frozen=True):
    """Octets of the first messages asked for; None for one that is gone.

    Empty when the first of them is larger than `bytes_max`: read it in pieces, by GetBlob.
    """

    messages: tuple[bytes | None, ...]
