"""Ports: what gateways and actors may ask of the rest of the house.

Typing Protocols alone. `actors/router.py` implements `Mail`, `Accounts` and `Push` over a
`Transport`; `actors/ray_ports.py` is the one between Ray's actors, `actors/local_ports.py` the one
inside a process, with which every gateway and actor is tested without Ray.
Every method raises `mail.errors.MailError`s only; Unavailable and its kind are temporary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from actors.commands import (
    Account,
    BlobData,
    BlobStored,
    JmapAnswer,
    MailboxState,
    ShardId,
)
from mail.address import Address
from mail.summary import SearchText, Summary


class Transport(Protocol):
    """Carry frames to shards. Repeats nothing by itself."""

    async def call(self, shard: ShardId, frame: bytes, *, timeout_s: float) -> bytes:
        """Return the reply frame of the shard's primary.

        Raises Unavailable when it certainly did not happen, OutcomeUnknown when it may have.
        """


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

    async def sign_in(self, name: str, password: str) -> Account:
        """Return the account. Raises SignInRefused, Unavailable."""


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
        self, account: Account, request: bytes, *, session_state: str = ""
    ) -> JmapAnswer:
        """Evaluate a JMAP request object (JSON) next to the account's data.

        `session_state` comes back in the Response (RFC 8620 §3.4).
        """

    async def upload(self, account: Account, data: bytes) -> BlobStored:
        """Store an upload durably and return its blob id."""

    async def download(self, account: Account, blob_id: str, *, offset: int = 0) -> BlobData:
        """Return up to 4 MiB of a blob from `offset`. Raises NotFound."""


class Push(Protocol):
    """State changes of mailboxes."""

    async def subscribe(
        self, account: Account, listener: Callable[[MailboxState], None]
    ) -> Callable[[], None]:
        """Call `listener` with the present states, with every change, and at every beat (≤ 30 s).

        Returns the function that ends it. Raises Unavailable when the mailbox cannot be reached.
        """
