"""Transaction: from MAIL to the reply to the end of the message, and the message's way to us.

On success  `store` returns once every recipient's message is on a majority of its replicas.
On failure  MailErrors; some recipients may have it all the same, and the peer is to repeat (R18).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from actors.commands import Account, MailboxId
from actors.ports import Destination, Letter
from gateways.smtp import replies
from gateways.smtp.command import MailCommand
from gateways.smtp.reception import InboundReception
from gateways.smtp.trace import Hop, received_field, trace_block
from mail.errors import TooManyHops, Unavailable
from mail.message import parse
from mail.summary import SearchText, Summary

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Transaction:
    """Who sends, and how many are to get it."""

    mail: MailCommand
    recipients: int = 0  # answered with 250; two of one mailbox count as two
    refused: int = 0
    deferred: int = 0

    def demand_recipients(self) -> None:
        """Return when there is somebody to take a message for. Raises MailError."""
        if self.recipients:
            return
        if self.deferred:
            raise Unavailable
        raise replies.NoValidRecipients if self.refused else replies.OutOfSequence


@dataclass(slots=True)
class InboundTransaction(Transaction):
    """Whose mailboxes it goes to."""

    accounts: dict[MailboxId, tuple[Account, str]] = field(default_factory=dict)  # and the path


async def store(
    reception: InboundReception, transaction: InboundTransaction, received: bytes, hop: Hop
) -> None:
    """Store the message for every recipient."""
    settings = reception.settings
    if len(received) <= settings.parse_inline_bytes_max:
        summary, search_text, hops = _read_message(received)
    else:
        summary, search_text, hops = await asyncio.get_running_loop().run_in_executor(
            reception.executor, _read_message, received
        )
    if hops > settings.received_max:
        raise TooManyHops
    reverse_path = transaction.mail.reverse_path
    letter = Letter(
        mail_from=reverse_path,
        received=received,
        summary=summary,
        search_text=search_text,
        received_at_ms=hop.received_at_ms,
    )
    await reception.mail.deliver(letter, _destinations(transaction, hop))
    counters = reception.counters
    counters.accepted += 1
    counters.bytes += len(received)
    counters.recipients += transaction.recipients
    log.info(
        "accepted %s: from <%s>, %d bytes, %d recipients",
        hop.transaction_id, reverse_path, len(received), transaction.recipients,
    )  # fmt: skip


def _read_message(raw: bytes) -> tuple[Summary, SearchText, int]:
    """Return what is stored beside the octets, and the number of Received fields."""
    message = parse(raw)
    return message.summary, message.search_text, message.received_count


def _destinations(transaction: InboundTransaction, hop: Hop) -> list[Destination]:
    """Return one destination a mailbox, each with its own trace block."""
    recipients = list(transaction.accounts.values())
    received = received_field(hop, recipients[0][1] if transaction.recipients == 1 else None)
    destinations = []
    for account, path in recipients:
        # `<Postmaster>` has no domain (RFC 5321 §4.1.1.3).
        delivered_to = path if "@" in path else account.address
        trace = trace_block(
            mail_from=transaction.mail.reverse_path, delivered_to=delivered_to, received=received
        )
        destinations.append(Destination(account, path, trace))
    return destinations
