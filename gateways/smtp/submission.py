"""SubmissionSession: one of our own users, who sends mail (RFC 6409).

On success  `250 2.0.0 Ok: queued as …` to the end of data: message and queue entries are durable.
On failure  as `gateways/smtp/session.py` says; 530 before the sign-in, 550 5.7.1 for an address
            that is not the account's, in the envelope or in the message.
Sign-in     by AUTH (RFC 4954) over TLS alone, from this machine as well; it needs the scope
            `submit`. It lasts as long as its credential: MAIL looks again. RSET leaves it.
Bounds      failed sign-ins a session, then 421; messages and recipients an hour of an account,
            then 450 4.7.1, wherever it comes from.
Null path   is taken (`MAIL FROM:<>`): notifications of a reader's program that a message was
            read must have it (RFC 8098 §3), and RFC 6409 §6.1 asks for the right to an address,
            which this is not. The message's authors must be the account's all the same.
Recipients  may be anywhere: a domain is neither looked up nor asked here.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Mapping
from typing import ClassVar

from actors.account_commands import SCOPE_SUBMIT, Access
from gateways.sasl.exchange import LINE_BYTES_MAX, MECHANISMS, Exchange
from gateways.sasl.steps import Challenge, Malformed
from gateways.smtp import replies
from gateways.smtp.account_rates import Sending
from gateways.smtp.command import read_submission, read_submission_rcpt
from gateways.smtp.connection import LineTooLong, SessionEnds
from gateways.smtp.reception import SubmissionReception
from gateways.smtp.session import Session, demand_clean
from gateways.smtp.submitted import (
    SubmissionTransaction,
    demand_fully_qualified,
    demand_owned,
    domain_of,
    submit,
)
from mail.address import Address
from mail.errors import Invalid, MailError, SignInRefused, Unavailable

log = logging.getLogger(__name__)


class SubmissionSession(Session[SubmissionReception, SubmissionTransaction]):
    """A session with one of our users."""

    line_bytes_max: ClassVar[int] = LINE_BYTES_MAX + 2
    verbs: ClassVar[Mapping[bytes, str]] = {**Session.verbs, b"AUTH": "smtp_AUTH"}
    help: ClassVar[bytes] = replies.SUBMISSION_HELP

    def __init__(self, reception: SubmissionReception, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reception, loop)
        self._access: Access | None = None  # who has signed in
        self._sign_ins_failed = 0

    def extensions(self, *, starttls: bool) -> bytes:
        """Return the reply to EHLO: AUTH is offered where it would be taken."""
        may_sign_in = self.tls is not None and self._access is None
        return replies.submission_ehlo_reply(
            self.hostname,
            self.settings.size_bytes_max,
            starttls=starttls,
            mechanisms=MECHANISMS if may_sign_in else (),
        )

    async def smtp_STARTTLS(self, arg: str) -> None:
        """Go over to TLS; nobody has signed in after it (RFC 3207 §4.2)."""
        await super().smtp_STARTTLS(arg)
        self._access = None

    # Sign-in ------------------------------------------------------------------------------

    async def smtp_AUTH(self, arg: str) -> None:
        """Sign in (RFC 4954 §4)."""
        if not self._extended:
            raise replies.OutOfSequence("Say EHLO first")
        if self._transaction is not None:
            raise replies.OutOfSequence("AUTH cannot be part of a transaction")
        if self._access is not None:
            raise replies.OutOfSequence("You have signed in already")
        if self.tls is None:
            raise replies.EncryptionRequired
        mechanism, _, initial = arg.partition(" ")
        if not mechanism:
            raise Invalid("Syntax: AUTH mechanism [initial-response]")
        exchange = Exchange(mechanism, self._reception.sign_ins)
        try:
            access = await self._signed_in(exchange, initial.strip(" "))
            if not access.allows(SCOPE_SUBMIT):
                raise replies.MayNotSend
        except (SignInRefused, Malformed, replies.AuthenticationCancelled) as error:
            await self._sign_in_failed(error)
            raise
        except Unavailable as error:
            log.warning("%s cannot sign in now: %s", self.peer_ip, error.text)
            raise replies.CannotAuthenticateNow from error
        self._access = access
        self.reply(replies.AUTHENTICATED)
        await self.flush()

    async def _signed_in(self, exchange: Exchange, initial: str) -> Access:
        step = await exchange.respond(_decoded(initial.encode()) if initial else None)
        while isinstance(step, Challenge):
            self.reply(b"334 %s\r\n" % base64.b64encode(step.octets))
            try:
                line = await self.read_line()
            except LineTooLong:
                raise replies.AuthenticationLineTooLong from None
            demand_clean(line)
            if line == b"*\r":
                raise replies.AuthenticationCancelled
            step = await exchange.respond(_decoded(line[:-1]))
        return step

    async def _sign_in_failed(self, error: MailError) -> None:
        """Hold a failure against the session and whom it comes from."""
        self._sign_ins_failed += 1
        self._reception.sign_ins_refused += 1
        if isinstance(error, SignInRefused):
            log.info("%s: sign-in refused", self.peer_ip)
            await asyncio.sleep(self._reception.settings.refusal_delay_s)
            self._failed()
        if self._sign_ins_failed >= self._reception.settings.sign_in_attempts_max:
            raise SessionEnds(f"421 4.7.0 {self.hostname} Too many failed sign-ins") from error

    async def _demand_access(self) -> Access:
        """Return what the sign-in opens now. Raises AuthenticationRequired, Unavailable."""
        if self._access is None:
            raise replies.AuthenticationRequired
        try:
            access = await self._reception.sign_ins.confirm(self._access)
        except SignInRefused:
            access = None
        if access is None or not access.allows(SCOPE_SUBMIT):
            self._access = None
            raise replies.AuthenticationRequired("Your sign-in has ended, sign in again")
        self._access = access
        return access

    # Transactions -------------------------------------------------------------------------

    async def smtp_MAIL(self, arg: str | None) -> None:
        """Begin a transaction of the account, from an address of its own."""
        self._demand_turn()
        access = await self._demand_access()
        mail, said = read_submission(arg or "", size_bytes_max=self.settings.size_bytes_max)
        demand_owned(access.account, said.mail_from)
        self._spend_rate(access, Sending.MESSAGE, "messages")
        self._begin(SubmissionTransaction(mail, access=access, said=said))

    async def smtp_RCPT(self, arg: str | None) -> None:
        """Take a recipient, wherever it is."""
        transaction = self._demand_envelope()
        account = transaction.access.account
        try:
            address, options = read_submission_rcpt(arg or "", smtputf8=transaction.mail.smtputf8)
            if not address.domain:  # `<Postmaster>` (RFC 5321 §4.1.1.3)
                address = Address(address.local, domain_of(account))
            demand_fully_qualified(address, account)
            if address not in transaction.envelope:
                if transaction.recipients >= self.settings.recipients_max:
                    raise replies.TooManyRecipients
                self._spend_rate(transaction.access, Sending.RECIPIENT, "recipients")
        except Unavailable:
            transaction.deferred += 1
            raise
        except MailError:
            transaction.refused += 1
            raise
        transaction.envelope.setdefault(address, options)
        transaction.recipients = len(transaction.envelope)
        self.reply(replies.RECIPIENT_OK)

    def _spend_rate(self, access: Access, sending: Sending, what: str) -> None:
        """Count what the account sends. Raises TooMuchSent."""
        reception = self._reception
        wait_s = reception.rates.take(access.account.mailbox, sending, self.loop.time())
        if wait_s:
            reception.counters.limited += 1
            minutes = 1 + int(wait_s // 60)
            raise replies.TooMuchSent(
                f"Too many {what} from your account in an hour, try again in {minutes} min"
            )

    async def _take(self, transaction: SubmissionTransaction, received: bytes) -> None:
        """Hand the message over, then say so."""
        hop = self._hop(transaction)._replace(
            signed_in=True, told=self._reception.settings.tell_client_address
        )
        self._taken(await submit(self._reception, transaction, received, hop))


def _decoded(encoded: bytes) -> bytes:
    """Return what base64 stands for; `=` is nothing, as an initial response (RFC 4954 §4)."""
    if encoded == b"=":
        return b""
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise Malformed("That is not base64") from None
