"""InboundSession: one peer that brings mail (RFC 5321), from its greeting to its last reply.

On success  `250 2.0.0 Ok: queued as …` to the end of data: every recipient's message is on a
            majority of its replicas and is ours (RFC 5321 §4.2.5).
On failure  as `gateways/smtp/session.py` says. A transaction that ended in 451 may have arrived
            in part: the peer repeats it.
Bounds      refused recipients a session, besides those of every session.
Not here    relaying and authentication, trusted or not (that is submission); DSN.
"""

from __future__ import annotations

import asyncio

from actors.commands import Account
from gateways.smtp import replies
from gateways.smtp.command import read_mail, read_rcpt
from gateways.smtp.connection import SessionEnds
from gateways.smtp.peer_limits import Doing
from gateways.smtp.reception import InboundReception
from gateways.smtp.session import Session
from gateways.smtp.transaction import InboundTransaction, store
from mail.errors import MailboxFull, NoSuchMailbox, RelayDenied, Unavailable


class InboundSession(Session[InboundReception, InboundTransaction]):
    """A session with another server."""

    def __init__(self, reception: InboundReception, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reception, loop)
        self._refused_recipients = 0

    def extensions(self, *, starttls: bool) -> bytes:
        """Return the reply to EHLO."""
        return replies.ehlo_reply(self.hostname, self.settings.size_bytes_max, starttls=starttls)

    async def smtp_MAIL(self, arg: str | None) -> None:
        """Begin a transaction."""
        self._demand_turn()
        size_bytes_max = self.settings.size_bytes_max
        mail = read_mail(arg or "", extended=self._extended, size_bytes_max=size_bytes_max)
        self._begin(InboundTransaction(mail))

    async def smtp_RCPT(self, arg: str | None) -> None:
        """Ask the directory for the mailbox; an unknown one is refused here, not bounced."""
        transaction = self._demand_envelope()
        address, path = read_rcpt(
            arg or "", extended=self._extended, smtputf8=transaction.mail.smtputf8
        )
        try:
            if transaction.recipients >= self.settings.recipients_max:
                raise replies.TooManyRecipients
            self._spend(Doing.RECIPIENT, "recipients")
            account = await self._reception.accounts.resolve(address)
            if account.quota_bytes:
                await self._expect_room(account, transaction.mail.size_bytes)
        except (NoSuchMailbox, RelayDenied, replies.TooManyRecipients) as error:
            transaction.refused += 1
            self._refused_recipients += 1
            if self._refused_recipients > self._reception.settings.refused_recipients_max:
                raise SessionEnds(f"421 4.7.0 {self.hostname} Too many recipients") from error
            if not isinstance(error, Unavailable):
                self._failed()
            raise
        except Exception:
            transaction.deferred += 1
            raise
        transaction.recipients += 1
        transaction.accounts.setdefault(account.mailbox, (account, path))
        self.reply(replies.RECIPIENT_OK)

    async def _expect_room(self, account: Account, size_bytes: int) -> None:
        """Ask the mailbox. One that does not answer is asked again by the message itself."""
        try:
            await self._reception.mail.expect_room(account, size_bytes)
        except MailboxFull:
            raise
        except Unavailable:
            return

    async def _take(self, transaction: InboundTransaction, received: bytes) -> None:
        """Store the message for every recipient, then say so."""
        hop = self._hop(transaction)
        await store(self._reception, transaction, received, hop)
        self._taken(hop.transaction_id)
