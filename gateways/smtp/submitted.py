"""Submitted: a user's message, from its envelope to the port that takes it over.

On success  `submit` returns once message and queue entries are durable.
On failure  MailErrors; the client repeats what was temporary.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, field

from actors.account_commands import Access
from actors.commands import Account
from actors.ports import Envelope, EnvelopeRecipient
from gateways.smtp import replies
from gateways.smtp.command import Submitted
from gateways.smtp.reception import SubmissionReception
from gateways.smtp.trace import Hop, received_field
from gateways.smtp.transaction import Transaction
from mail.address import Address
from mail.dsn_options import RcptOptions
from mail.errors import TooManyHops
from mail.header_scan import header_end
from mail.submission import authors, complete, may_send

RECEIVED = re.compile(rb"(?im)^received[ \t]*:")

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class SubmissionTransaction(Transaction):
    """Whose message it is, and where it goes."""

    access: Access
    said: Submitted
    envelope: dict[Address, RcptOptions] = field(default_factory=dict)


def owned_addresses(account: Account) -> tuple[str, ...]:
    """Return the addresses that an account may send as."""
    return (account.address, *account.aliases)


def demand_owned(account: Account, mail_from: Address | None) -> None:
    """Return when an account may send from a reverse path. Raises ForbiddenMailFrom."""
    may_send((account.address,), mail_from, owned_addresses(account))


def demand_fully_qualified(address: Address, account: Account) -> None:
    """Return when a domain can be meant by everybody alike (RFC 6409 §4.2).

    One without a dot is meant here only, and taken if it is the account's own. Raises
    NotFullyQualified.
    """
    domain = address.domain
    if "." not in domain and not domain.startswith("[") and domain != domain_of(account):
        raise replies.NotFullyQualified(f"The domain {domain} is not fully qualified")


def domain_of(account: Account) -> str:
    """Return the domain of an account's own address."""
    return account.address.rpartition("@")[2]


def prepared(raw: bytes, hop: Hop, transaction: SubmissionTransaction, received_max: int) -> bytes:
    """Return a message as it goes out: ours by right, complete, and with its trace.

    Raises ForbiddenFrom, TooManyHops.
    """
    if len(RECEIVED.findall(raw, 0, header_end(raw))) > received_max:
        raise TooManyHops
    account = transaction.access.account
    may_send(authors(raw), transaction.said.mail_from, owned_addresses(account))
    message_id = f"{hop.received_at_ms:x}.{hop.transaction_id}@{domain_of(account)}"
    done = complete(raw, message_id=message_id, sent_at_ms=hop.received_at_ms)
    only = str(next(iter(transaction.envelope))) if len(transaction.envelope) == 1 else None
    return received_field(hop, only).encode() + done


async def submit(
    reception: SubmissionReception, transaction: SubmissionTransaction, received: bytes, hop: Hop
) -> str:
    """Hand a message over; return its id in the queue."""
    settings = reception.settings
    arguments = received, hop, transaction, settings.received_max
    if len(received) <= settings.parse_inline_bytes_max:
        raw = prepared(*arguments)
    else:
        loop = asyncio.get_running_loop()
        raw = await loop.run_in_executor(reception.executor, prepared, *arguments)
    said, access = transaction.said, transaction.access
    envelope = Envelope(
        mail_from=said.mail_from,
        options=said.options,
        recipients=tuple(EnvelopeRecipient(*item) for item in transaction.envelope.items()),
        smtputf8=transaction.mail.smtputf8,
        eight_bit=said.eight_bit,
    )
    queue_id = await reception.submission.submit(access, envelope, raw)
    counters = reception.counters
    counters.accepted += 1
    counters.bytes += len(received)
    counters.recipients += transaction.recipients
    log.info(
        "submitted %s as %s: by <%s>, %d bytes, %d recipients",
        hop.transaction_id, queue_id, access.account.address, len(received),
        transaction.recipients,
    )  # fmt: skip
    return queue_id
