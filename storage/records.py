"""Records: every value that rests on disk.

A record is one version byte and a msgspec array. Fields are only appended, each with a
default: an older release ignores what it does not know, a newer one fills what is missing.
A change that this cannot carry raises VERSION of the record and keeps reading the old one.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar

import msgspec

from mail.folders import Counters, ThreadMember
from mail.summary import Summary

RecordT = TypeVar("RecordT", bound="Record")


class Damaged(Exception):
    """A record on disk cannot be read."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """Base of the records. `VERSION` is the first octet on disk."""

    VERSION: ClassVar[int] = 1


_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type, msgspec.msgpack.Decoder[object]] = {}


def encode(record: Record) -> bytes:
    """Return the octets of `record`."""
    return bytes((record.VERSION,)) + _encoder.encode(record)


def decode(octets: bytes, cls: type[RecordT]) -> RecordT:
    """Return the record of class `cls`. Raises Damaged."""
    decoder = _decoders.get(cls)
    if decoder is None:
        decoder = _decoders[cls] = msgspec.msgpack.Decoder(cls)
    if not octets or octets[0] != cls.VERSION:
        raise Damaged(f"{cls.__name__}: unknown version {octets[:1].hex() or 'none'}")
    try:
        return decoder.decode(memoryview(octets)[1:])  # type: ignore[return-value]
    except msgspec.DecodeError as error:
        raise Damaged(f"{cls.__name__}: {error}") from None


def decode_or_none(octets: bytes | None, cls: type[RecordT]) -> RecordT | None:
    """Return the record, None when there is none or it cannot be read: for who looks for damage."""
    try:
        return None if octets is None else decode(octets, cls)
    except Damaged:
        return None


# The log ------------------------------------------------------------------------------------


class Members(msgspec.Struct, frozen=True, array_like=True):
    """Who belongs to a replica set (R6). Replicas are named by their 16 octets, in order."""

    voters: tuple[bytes, ...]
    learners: tuple[bytes, ...] = ()  # filled from the log; count in no majority
    incarnation: int = 0  # raised when an operator gives up what a lost majority held


class Entry(Record, frozen=True, array_like=True):
    """One record of the replicated log (R1). Invariant: epochs never decrease along the log."""

    epoch: int  # ≥ 1; raised by every failover
    index: int  # ≥ 1; dense
    mailbox: int  # whose turn it was; 0 for the directory and for entries of the log itself
    request_id: bytes  # the same id has the same reply; empty for entries of the log itself
    recorded_at_ms: int  # the primary's clock; followers must not read their own
    puts: tuple[tuple[bytes, bytes], ...] = ()  # state family
    deletes: tuple[bytes, ...] = ()
    blobs: tuple[bytes, ...] = ()  # SHA-256 of every blob that must be present
    kind: int = 0  # ENTRY_EFFECTS, ENTRY_EPOCH or ENTRY_MEMBERS
    emails: tuple[int, ...] = ()  # emails whose search documents this entry changes
    dropped: tuple[bytes, ...] = ()  # SHA-256 of blobs that nothing refers to any more
    members: Members | None = None  # of an ENTRY_MEMBERS: the replica set from here on


ENTRY_EFFECTS, ENTRY_EPOCH, ENTRY_MEMBERS = 0, 1, 2


class Applied(Record, frozen=True, array_like=True):
    index: int
    epoch: int


class MembersRecord(Record, frozen=True, array_like=True):
    """The applied replica set, and the log index that brought it; 0: born with the replica."""

    index: int
    members: Members


class Identity(Record, frozen=True, array_like=True):
    """Whose database this is; the same as in the hard state beside it."""

    cluster: str
    shard: int
    kind: str
    replica: bytes  # 16 octets, born with the directory


class Number(Record, frozen=True, array_like=True):
    value: int


# A mailbox ----------------------------------------------------------------------------------


class MailboxRecord(Record, frozen=True, array_like=True):
    """What a mailbox counts. Every number only grows."""

    created_at_ms: int
    uid_validity: int
    next_email: int = 1
    next_folder: int = 1
    next_thread: int = 1
    modseq: int = 0  # of the newest change of any kind
    email_modseq: int = 0  # the JMAP states: the newest change of that type
    folder_modseq: int = 0
    thread_modseq: int = 0
    oldest_change: int = 1  # changes before this modseq are forgotten
    size_bytes: int = 0  # of all messages
    emails: int = 0
    removed: bool = False
    roles: tuple[tuple[str, int], ...] = ()  # role and folder; FolderRecord has it too
    unread: int = -1  # emails neither seen nor drafts, each once (derived, R9); -1: not counted yet


class FolderRecord(Record, frozen=True, array_like=True):
    name: str
    role: str | None
    parent: int | None
    sort_order: int
    uid_next: int = 1
    uid_validity: int = 1
    subscribed: bool = True


class EmailRecord(Record, frozen=True, array_like=True):
    """What never changes of an email."""

    email_id: int
    thread_id: int
    digest: bytes  # SHA-256 of the octets
    size_bytes: int
    received_at_ms: int
    summary: Summary
    epoch: int = 0  # where in the log it was committed; 0: not recorded
    index: int = 0


class Placed(msgspec.Struct, frozen=True, array_like=True):
    """An email in a folder, with the UID that it has there (RFC 9051 §2.3.1.1)."""

    folder: int
    uid: int
    since_ms: int = 0  # when it was put there; 0: not known


class EmailState(Record, frozen=True, array_like=True):
    """What changes of an email."""

    keywords: tuple[str, ...]
    places: tuple[Placed, ...]
    modseq: int
    created_modseq: int


class ListRecord(Record, frozen=True, array_like=True):
    """What a listing filters by without reading the email (derived from EmailState)."""

    thread_id: int
    keywords: tuple[str, ...]
    size_bytes: int
    has_attachment: bool


class ThreadRecord(Record, frozen=True, array_like=True):
    """The emails of a thread, oldest first, and the base subject that they share."""

    subject: str
    members: tuple[ThreadMember, ...]


class BlobOwner(Record, frozen=True, array_like=True):
    """Why a mailbox may read a blob: an email of it, or an upload until it expires."""

    emails: tuple[int, ...] = ()
    size_bytes: int = 0
    upload_expires_ms: int = 0


class ChangeRecord(Record, frozen=True, array_like=True):
    """What one turn changed (RFC 8620 §5.2)."""

    emails_created: tuple[int, ...] = ()
    emails_updated: tuple[int, ...] = ()
    emails_destroyed: tuple[int, ...] = ()
    folders_created: tuple[int, ...] = ()
    folders_updated: tuple[int, ...] = ()
    folders_destroyed: tuple[int, ...] = ()
    folders_counted: tuple[int, ...] = ()  # only their counters changed
    threads_created: tuple[int, ...] = ()
    threads_updated: tuple[int, ...] = ()
    threads_destroyed: tuple[int, ...] = ()


class ReplyRecord(Record, frozen=True, array_like=True):
    """The remembered reply to a request id; empty for a fenced one (R8)."""

    reply: bytes
    recorded_at_ms: int


class RepeatRecord(Record, frozen=True, array_like=True):
    """A stored message whose sender was told 451 and will repeat it."""

    email_id: int
    expires_ms: int


class CountersRecord(Record, frozen=True, array_like=True):
    """The counters of a folder; derived from its threads (R9)."""

    counters: Counters


# The directory ------------------------------------------------------------------------------


class Touched(msgspec.Struct, frozen=True, array_like=True):
    """One version of the directory and the accounts it is about; None: any of them."""

    version: int
    accounts: tuple[int, ...] | None


class DirectoryRecord(Record, frozen=True, array_like=True):
    next_account: int = 1
    next_shard: int = 2
    version: int = 1
    recent: tuple[Touched, ...] = ()  # the newest versions, the oldest first
    first_admin: int = -1  # the administrator with the least number; 0: none, -1: not known
    decoy_secret: bytes = b""  # makes the SCRAM salts of names that nobody has


class DomainRecord(Record, frozen=True, array_like=True):
    name: str
    created_at_ms: int
    signup: str = "closed"
    signups_per_day_max: int = 1000
    quota_bytes: int = 0  # of new accounts; 0: no limit
    catch_all: int = 0  # the account that gets what is nobody else's; 0: none
    first_account: int = -1  # the account here with the least number; 0: none, -1: not known
    signup_day: int = 0  # days since 1970 of the newest sign-up
    signups: int = 0  # on that day


class AccountRecord(Record, frozen=True, array_like=True):
    account: int
    address: str
    shard: int
    role: str
    display_name: str
    language: str
    time_zone: str
    quota_bytes: int
    created_at_ms: int
    aliases: tuple[str, ...] = ()
    disabled: bool = False


class AddressRecord(Record, frozen=True, array_like=True):
    account: int
    is_alias: bool = False


class CredentialRecord(Record, frozen=True, array_like=True):
    """What is kept of a password: argon2id (RFC 9106) and SCRAM-SHA-256 keys (RFC 7677)."""

    argon2id: str
    scram_salt: bytes
    scram_iterations: int
    scram_stored_key: bytes
    scram_server_key: bytes
    changed_at_ms: int


class AccessToken(msgspec.Struct, frozen=True, array_like=True):
    digest: bytes
    expires_at_ms: int
    scopes: tuple[str, ...]


class SessionRecord(Record, frozen=True, array_like=True):
    """One sign-in by token. Every digest is a SHA-256 of a random secret."""

    session: int
    account: int
    label: str
    scopes: tuple[str, ...]
    created_at_ms: int
    used_at_ms: int
    expires_at_ms: int  # of the refresh token
    family: bytes  # what all refresh tokens of the session have in common
    refresh: bytes
    previous_refresh: bytes = b""
    rotated_at_ms: int = 0
    access: tuple[AccessToken, ...] = ()  # the oldest first


class AppPasswordRecord(Record, frozen=True, array_like=True):
    number: int
    account: int
    label: str
    scopes: tuple[str, ...]
    digest: bytes  # SHA-256: it is random, so that a slow hash would add nothing
    created_at_ms: int
    used_at_ms: int = 0


class InvitationRecord(Record, frozen=True, array_like=True):
    domain: str
    uses_left: int
    expires_at_ms: int


class ShardRecord(Record, frozen=True, array_like=True):
    shard: int
    kind: str
    replicas: tuple[str, ...]  # nodes
    mailboxes: int
    created_at_ms: int
    founded: bool = False
