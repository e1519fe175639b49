"""Ports: what gateways and actors may ask of the rest of the house.

Typing Protocols alone. `actors/router.py` implements `Mail`, `SignIns` and `Push` over a
`Transport`; `actors/ray_ports.py` is the one between Ray's actors, `actors/local_ports.py` the one
inside a process, with which every gateway and actor is tested without Ray.
Every method raises `mail.errors.MailError`s only; Unavailable and its kind are temporary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from actors.account_commands import Access, AppPassword, ScramKeys, SessionRow
from actors.commands import (
    Account,
    BlobData,
    BlobStored,
    JmapAnswer,
    MailboxState,
    ShardId,
)
from mail.address import Address
from mail.dsn_options import MailOptions, RcptOptions
from mail.summary import SearchText, Summary


class Transport(Protocol):
    """Carry frames to shards. Repeats nothing by itself."""

    async def call(self, shard: ShardId, frame: bytes, *, timeout_s: float) -> bytes:
        """Return the reply frame of the shard's primary.

        Raises Unavailable when it certainly did not happen, OutcomeUnknown when it may have.
        """

    def misled(self, shard: ShardId) -> None:
        """Take note that whoever was asked does not lead the shard: look for the primary anew."""


class Notices(Protocol):
    """Carry frames of Notify commands from a shard to the gateways that asked for them."""

    def notify(self, gateway: str, frame: bytes) -> None:
        """Hand a frame to a gateway; failure is nobody's concern."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One received message, parsed once."""

    mail_from: str  # reverse path as the peer gave it, "" for the null one
    received: bytes  # the octets after dot removal, unchanged
    summary: Summary
    search_text: SearchText
    received_at_ms: int  # Unix time


@dataclass(frozen=True, slots=True)
class Destination:
    """One recipient of a letter: whose mailbox, and the trace block that goes before the octets."""

    account: Account
    forward_path: str  # the address as the peer gave it
    trace: bytes  # Return-Path, Delivered-To, Received; each line ends with CRLF


class Accounts(Protocol):
    """The directory, as gateways see it."""

    async def resolve(self, address: Address) -> Account:
        """Return the account that takes mail for `address` (aliases, plus detail, postmaster).

        Raises NoSuchMailbox (the domain is ours), RelayDenied (it is not), Unavailable.
        """

    async def sign_in(self, name: str, password: str) -> Access:
        """Return whose sign-in it is and which scopes it has; app passwords have few.

        Whoever serves it asks `Access.allows`. Raises SignInRefused, Unavailable.
        """


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    """What a session gives its client."""

    access: str
    refresh: str
    session: int
    scopes: tuple[str, ...]  # of the access token
    expires_in_s: int  # the access token


class SignIns(Accounts, Protocol):
    """How people sign in and sign up, as gateways see it."""

    async def bear(self, token: str) -> Access:
        """Return what an access token opens. Raises SignInRefused, Unavailable."""

    async def confirm(self, access: Access) -> Access:
        """Return what a sign-in of a while ago opens now. Raises SignInRefused, Unavailable."""

    async def scram_keys(self, name: str) -> ScramKeys:
        """Return the keys of a name's password for SCRAM, of a name that nobody has a decoy.

        Once a proof was right, `confirm` the Access among them. Raises Unavailable.
        """

    async def until_ended(self, access: Access) -> None:
        """Return once a sign-in has ended: its token expired or revoked, the password changed,

        the account disabled or removed. While the directory is away, nothing is known to end.
        """

    async def issue_token(
        self, name: str, password: str, *, scopes: Sequence[str] = (), label: str = ""
    ) -> Tokens:
        """Begin a session by password; no scopes: all of the account's.

        Raises SignInRefused, Invalid (a scope that it does not have), Unavailable.
        """

    async def refresh_token(self, token: str, *, scopes: Sequence[str] = ()) -> Tokens:
        """Exchange a refresh token. Raises SignInRefused, Invalid (the scopes), Unavailable."""

    async def revoke_token(self, token: str) -> None:
        """End the session of an access or refresh token; what is none is no error."""

    async def sessions(self, access: Access) -> Sequence[SessionRow]:
        """Return the sessions of an account, the one used last first."""

    async def end_session(self, access: Access, session: int) -> None:
        """End one session (raises NotFound), or with 0 all but the one of `access`."""

    async def app_passwords(self, access: Access) -> Sequence[AppPassword]:
        """Return the app passwords of an account."""

    async def add_app_password(
        self, access: Access, *, label: str, scopes: Sequence[str]
    ) -> tuple[AppPassword, str]:
        """Make an app password and return it with its text, which nobody can show again.

        Raises Invalid.
        """

    async def remove_app_password(self, access: Access, number: int) -> None:
        """Take an app password away. Raises NotFound."""

    async def sign_up(
        self,
        address: str,
        password: str,
        *,
        network: str,
        invitation: str = "",
        display_name: str = "",
    ) -> tuple[Account, bool]:
        """Make an account for a stranger; say whether its mailbox serves already.

        Raises SignUpRefused, Invalid, TooManySignUps, Unavailable.
        """


class Mail(Protocol):
    """The mailboxes, as gateways see them. Calls are coalesced per shard and repeated by id."""

    async def deliver(self, letter: Letter, destinations: Sequence[Destination]) -> None:
        """Store one message for all destinations; returns once every one of them has it durable.

        Raises Unavailable when some could not be stored now (R18): the peer is to repeat it, and
        the repeat will not double it where it had arrived. Other MailErrors are permanent.
        """

    async def expect_room(self, account: Account, size_bytes: int) -> None:
        """Say in advance whether a message of that size has room (0: the size is not known).

        Asks only for accounts with a quota. Raises MailboxFull, Unavailable.
        """

    async def jmap(
        self,
        account: Account,
        request: bytes,
        *,
        session_state: str = "",
        read_only: bool = False,
        may_submit: bool = True,
    ) -> JmapAnswer:
        """Evaluate a JMAP request object (JSON) next to the account's data.

        `session_state` comes back in the Response (RFC 8620 §3.4). Methods that change something
        fail with accountReadOnly when it is `read_only`, submissions with forbidden unless one
        `may_submit`.
        """

    async def upload(self, account: Account, data: bytes) -> BlobStored:
        """Store an upload durably and return its blob id."""

    async def download(self, account: Account, blob_id: str, *, offset: int = 0) -> BlobData:
        """Return up to 4 MiB of a blob from `offset`. Raises NotFound."""


@dataclass(frozen=True, slots=True)
class EnvelopeRecipient:
    """One recipient of a submitted message."""

    address: Address  # here or anywhere
    options: RcptOptions  # NOTIFY and ORCPT


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sends a submitted message, to whom, and how (RFC 5321 §2.3.1)."""

    mail_from: Address | None  # None: the null reverse path
    options: MailOptions  # RET and ENVID
    recipients: tuple[EnvelopeRecipient, ...]  # at least one; each address once
    smtputf8: bool = False  # the sender asked for it (RFC 6531 §3.4)
    eight_bit: bool = False  # BODY=8BITMIME was declared (RFC 6152 §2)


class Submission(Protocol):
    """The way out, as gateways see it."""

    async def submit(self, access: Access, envelope: Envelope, raw: bytes) -> str:
        """Take over a message of somebody who has signed in; return its id in the queue.

        `raw` begins with our Received field and is complete (Message-ID, Date, no Bcc); the
        account may write from `mail_from` and in the name of its authors. Returns once message
        and queue entries are durable: from then on every recipient gets it, or the reverse path
        hears why not. Raises MailErrors: nothing was taken over, or, when they are temporary,
        perhaps was.
        """


class Push(Protocol):
    """State changes of mailboxes."""

    async def subscribe(
        self, account: Account, listener: Callable[[MailboxState], None]
    ) -> Callable[[], None]:
        """Call `listener` with the present states, with every change, and at every beat (≤ 30 s).

        Returns the function that ends it. Raises Unavailable when the mailbox cannot be reached.
        """
