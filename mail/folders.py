"""Folders: their names and roles, and the counters that RFC 8621 §2 asks for.

A folder is a JMAP Mailbox. Its counters are the sum of what every thread contributes, so a
change of one thread is: take its old contribution off, put its new one on.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import msgspec

from mail.errors import Invalid

INBOX = "inbox"
ARCHIVE = "archive"
DRAFTS = "drafts"
SENT = "sent"
JUNK = "junk"
TRASH = "trash"

# RFC 8621 §2: the IMAP mailbox name attributes of the IANA registry that name a purpose
# (RFC 6154 §2, RFC 8457 §3, RFC 8621 §10.5), in lower case.
ROLES = frozenset(
    (
        "all", ARCHIVE, DRAFTS, "flagged", "important", INBOX, JUNK, "memos", "scheduled", SENT,
        "snoozed", "subscribed", TRASH,
    )
)  # fmt: skip

# Name, role, sort order of the folders of a new mailbox.
DEFAULT_FOLDERS: tuple[tuple[str, str, int], ...] = (
    ("Inbox", INBOX, 10),
    ("Drafts", DRAFTS, 20),
    ("Sent", SENT, 30),
    ("Junk", JUNK, 40),
    ("Trash", TRASH, 50),
    ("Archive", ARCHIVE, 60),
)

FOLDER_NAME_BYTES_MAX = 255  # Capability `maxSizeMailboxName` (RFC 8621 §1.3.1 asks for 100).
SORT_ORDER_MAX = 2**31 - 1  # RFC 8621 §2.


class Counters(msgspec.Struct, frozen=True, array_like=True):
    """The four counters of a folder (RFC 8621 §2)."""

    total_emails: int = 0
    unread_emails: int = 0
    total_threads: int = 0
    unread_threads: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(
            self.total_emails + other.total_emails,
            self.unread_emails + other.unread_emails,
            self.total_threads + other.total_threads,
            self.unread_threads + other.unread_threads,
        )

    def __sub__(self, other: Counters) -> Counters:
        return Counters(
            self.total_emails - other.total_emails,
            self.unread_emails - other.unread_emails,
            self.total_threads - other.total_threads,
            self.unread_threads - other.unread_threads,
        )


class ThreadMember(msgspec.Struct, frozen=True, array_like=True):
    """One message of a thread, as far as counters care."""

    email_id: int
    unread: bool  # Neither $seen nor $draft: `mail.keywords.is_unread`.
    folders: tuple[int, ...]  # Without repetition.


def check_folder_name(name: str) -> str:
    """Return a folder name in NFC. Raises Invalid (RFC 8621 §2, RFC 5198 §2)."""
    try:
        name = unicodedata.normalize("NFC", name)
        size_bytes = len(name.encode())
    except UnicodeError:
        raise Invalid("The folder name is not valid") from None
    if not name.strip() or size_bytes > FOLDER_NAME_BYTES_MAX:
        raise Invalid("The folder name is empty or too long")
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name):
        raise Invalid("The folder name has control characters")
    return name


def count_thread(members: Sequence[ThreadMember], *, trash: int | None) -> dict[int, Counters]:
    """Return what one thread contributes to the counters of every folder it is in.

    RFC 8621 §2 on `unreadThreads`: a thread is unread in a folder if any of its messages is,
    wherever that one is; but messages only in the trash do not count for other folders, and
    messages not in the trash do not count for the trash.
    """
    totals: dict[int, int] = {}
    unreads: dict[int, int] = {}
    unread_outside = False  # Of messages that are in some folder beside the trash.
    for member in members:
        for folder in member.folders:
            totals[folder] = totals.get(folder, 0) + 1
            if member.unread:
                unreads[folder] = unreads.get(folder, 0) + 1
                unread_outside = unread_outside or folder != trash
    return {
        folder: Counters(
            total,
            unreads.get(folder, 0),
            1,
            int(folder in unreads if folder == trash else unread_outside),
        )
        for folder, total in totals.items()
    }
