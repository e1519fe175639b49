"""Commands and replies: everything that travels between actors, but for three parts:
`account_commands.py` (sessions, passwords of programs, sign-up), `transfer_commands.py` (import and
export) and `upkeep_commands.py`.

Each is a msgspec struct in array form behind one version byte (`actors/wire.py`). Fields
are only appended, each with a default, so that old and new releases read each other's.
A command that changes something carries a `request_id`: the shard remembers the reply
under (mailbox, request_id), so a repeat has one effect (R8).
"""

from __future__ import annotations

from typing import NewType

import msgspec

from mail.summary import SearchText, Summary

MailboxId = NewType("MailboxId", int)  # u64, given by the directory, never used again
ShardId = NewType("ShardId", int)  # u64; `DIRECTORY_SHARD` is the directory itself
RequestId = NewType("RequestId", bytes)  # 16 octets, a UUIDv7: the time it was made comes first
GatewayId = NewType("GatewayId", str)

DIRECTORY_SHARD = ShardId(1)
REQUEST_ID_BYTES = 16


class Command(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of everything that can be asked of an actor."""


class Reply(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of every answer."""


class Done(Reply, frozen=True):
    """It is done; there is nothing to tell."""


class Failed(Reply, frozen=True):
    """The command failed: `error` is the name of a class of `mail.errors`."""

    error: str
    text: str


# To a shard of mailboxes ------------------------------------------------------------------


class Deliver(Command, frozen=True):
    """Store one received message in one mailbox, at most once per request id."""

    mailbox: MailboxId
    request_id: RequestId
    raw: bytes  # trace block and received octets, exactly as they will be served
    summary: Summary
    search_text: SearchText
    received_at_ms: int
    fingerprint: bytes = b""  # 32 octets: envelope and received bytes, equal for a peer's repeat
    role: str = "inbox"  # the folder it goes to
    keywords: tuple[str, ...] = ()
    quota_bytes: int = 0  # what the mailbox may hold with it; 0: no limit


class Delivered(Reply, frozen=True):
    """The message is durable, visible and pushed."""

    email_id: int
    repeated: bool = False  # it had been there already: a repeat of a peer or of ours


class ExpectRepeat(Command, frozen=True):
    """The sender was told 451: match its repeat with `fingerprint` once, if this was stored.

    If the delivery `request_id` was not stored, it is fenced: it never will be.
    """

    mailbox: MailboxId
    request_id: RequestId
    delivery: RequestId  # the id of the Deliver
    fingerprint: bytes


class Jmap(Command, frozen=True):
    """Evaluate one whole JMAP request next to the data (RFC 8620 §3.3)."""

    mailbox: MailboxId
    request_id: RequestId
    request: bytes  # the JSON of the Request object
    session_state: str = ""
    read_only: bool = False  # refuse what changes something
    may_submit: bool = True


class JmapAnswer(Reply, frozen=True):
    """`status` 200 with a Response object, or 400 with a problem of RFC 8620 §3.6.1."""

    status: int
    body: bytes  # JSON


class PutBlob(Command, frozen=True):
    """Store an upload (RFC 8620 §6.1). Kept for a day unless something refers to it."""

    mailbox: MailboxId
    request_id: RequestId
    data: bytes


class BlobStored(Reply, frozen=True):
    blob_id: str
    size_bytes: int


class GetBlob(Command, frozen=True):
    """Read a blob that this mailbox owns: a message, one part of it, or an upload."""

    mailbox: MailboxId
    blob_id: str
    offset: int = 0
    length_max: int = 1 << 22


class BlobData(Reply, frozen=True):
    data: bytes
    size_bytes: int  # of the whole blob


class Subscribe(Command, frozen=True):
    """Push state changes of these mailboxes to a gateway for `ttl_ms`; renew before."""

    gateway: GatewayId
    mailboxes: tuple[MailboxId, ...]
    ttl_ms: int


class Unsubscribe(Command, frozen=True):
    gateway: GatewayId
    mailboxes: tuple[MailboxId, ...]


class MailboxState(msgspec.Struct, frozen=True, array_like=True):
    """The JMAP states of one mailbox, as numbers that only grow."""

    mailbox: MailboxId
    email: int
    folder: int  # JMAP type Mailbox
    thread: int


class States(Reply, frozen=True):
    states: tuple[MailboxState, ...]


class Notify(Command, frozen=True):
    """To a gateway: these mailboxes have new states. May be lost; the next beat repeats it."""

    states: tuple[MailboxState, ...]


class ShowMailbox(Command, frozen=True):
    mailbox: MailboxId


class MailboxShown(Reply, frozen=True):
    messages: int
    unread: int
    size_bytes: int


class ShowReceipt(Command, frozen=True):
    """Tell where in the log a message was committed. NotFound; Invalid when several match."""

    mailbox: MailboxId
    message: str  # the email's id, or what its header field Message-ID says


class Receipt(Reply, frozen=True):
    """The log entry that stored a message, and how far each replica's log is on its disk."""

    email_id: int
    epoch: int  # 0, and `index` too: stored before this was recorded
    index: int
    applied_index: int  # now, so that `index` is not above it
    flushed: tuple[tuple[bytes, int], ...]  # replica and index, as its primary knows


class RemoveMailbox(Command, frozen=True):
    """Destroy all of a mailbox and refuse it from now on."""

    mailbox: MailboxId
    request_id: RequestId


class ShowShard(Command, frozen=True):
    """Report what this replica knows of itself; answered by damaged shards too."""


class ShardShown(Reply, frozen=True):
    shard: ShardId
    kind: str  # "mailbox" or "directory"
    state: str  # "serving", "recovering", "damaged"
    epoch: int
    last_index: int
    commit_index: int
    applied_index: int
    indexed_index: int
    mailboxes: int
    pid: int
    trouble: str = ""  # why it is damaged
    version: str = ""
    metrics: dict[str, float] = {}


class Drain(Command, frozen=True):
    """Take nothing new, finish what was accepted, close the shard or the listeners."""


# To the directory -------------------------------------------------------------------------


class Account(Reply, frozen=True):
    """One account: a mailbox, who may use it, and where it is."""

    mailbox: MailboxId
    address: str
    shard: ShardId
    role: str = "user"  # or "admin"
    display_name: str = ""
    language: str = "en"  # BCP 47
    time_zone: str = "UTC"  # IANA name
    quota_bytes: int = 0  # 0: no limit
    aliases: tuple[str, ...] = ()
    disabled: bool = False


class AddDomain(Command, frozen=True):
    request_id: RequestId
    domain: str


class RemoveDomain(Command, frozen=True):
    """Remove a domain without accounts; Invalid when it still has some."""

    request_id: RequestId
    domain: str


class ListDomains(Command, frozen=True):
    pass


class Names(Reply, frozen=True):
    names: tuple[str, ...]


class AddAccount(Command, frozen=True):
    """Make an account; the directory chooses its shard (elastic packing)."""

    request_id: RequestId
    address: str
    password: str  # "": cannot be signed in to until it has one
    role: str = "user"
    quota_bytes: int = 0  # 0: no limit, -1: as the domain has it
    display_name: str = ""
    language: str = "en"
    time_zone: str = "UTC"


class RemoveAccount(Command, frozen=True):
    request_id: RequestId
    address: str


class ListAccounts(Command, frozen=True):
    after: str = ""  # the address key after which to go on
    limit_max: int = 1000


class Accounts(Reply, frozen=True):
    accounts: tuple[Account, ...]
    more: bool = False


class GetAccount(Command, frozen=True):
    address: str


class SetPassword(Command, frozen=True):
    """Give an account a password. All its sessions end."""

    request_id: RequestId
    address: str
    password: str
    keeps_app_passwords: bool = True


class SetProfile(Command, frozen=True):
    """Change what is not None."""

    request_id: RequestId
    address: str
    display_name: str | None = None
    language: str | None = None
    time_zone: str | None = None
    role: str | None = None
    quota_bytes: int | None = None
    disabled: bool | None = None


class AddAlias(Command, frozen=True):
    request_id: RequestId
    alias: str
    address: str


class RemoveAlias(Command, frozen=True):
    request_id: RequestId
    alias: str


class Resolve(Command, frozen=True):
    """Say which mailbox takes mail for each address: exact, alias, then without the plus detail.

    `postmaster` at every domain of ours is somebody: the first administrator, else the first
    account of the domain. Who is nobody else is the domain's catch-all account, if it has one.
    """

    addresses: tuple[str, ...]


class Resolved(Reply, frozen=True):
    """One item an address, in order: an Account, or Failed (NoSuchMailbox or RelayDenied)."""

    results: tuple[Account | Failed, ...]


class SignIn(Command, frozen=True):
    """Check a password or app password; the reply is an Access (`account_commands.py`).

    Fails with SignInRefused; the answer tells no more than that.
    """

    address: str
    password: str


class ShardRow(msgspec.Struct, frozen=True, array_like=True):
    """One shard as the directory has it."""

    shard: ShardId
    kind: str
    replicas: tuple[str, ...]  # node ids
    mailboxes: int
    created_at_ms: int = 0
    founded: bool = False  # its first replica was made once, and is never made again


class ListShards(Command, frozen=True):
    pass


class Shards(Reply, frozen=True):
    shards: tuple[ShardRow, ...]


class PlaceShard(msgspec.Struct, frozen=True, array_like=True):
    """Where the replicas of a shard belong from now on; None leaves it as it is."""

    shard: ShardId
    replicas: tuple[str, ...] | None = None
    founded: bool | None = None


class PlaceShards(Command, frozen=True):
    """Change rows of the shard table. The directory's own shard gets its row so."""

    request_id: RequestId
    places: tuple[PlaceShard, ...]


class WatchDirectory(Command, frozen=True):
    """Answer when the directory's version differs from `since`, or after `wait_ms`."""

    since: int
    wait_ms: int


class DirectoryVersion(Reply, frozen=True):
    """The version rises when an answer given before may no longer be true.

    `touched` names the accounts that such answers since the asked version are about; None: any.
    """

    version: int
    touched: tuple[MailboxId, ...] | None = None
