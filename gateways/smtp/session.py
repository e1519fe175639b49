"""Session: one SMTP client, from its greeting to its last reply, whoever it is (RFC 5321).

What is the same for servers that bring mail (`gateways/smtp/inbound.py`) and for our own users
(`gateways/smtp/submission.py`): the order of commands, the message's octets, errors and bounds.
A subclass answers MAIL and RCPT, and takes the message.

On failure  MailErrors carry their reply; anything else is our fault and therefore 451, never 5yz.
Bounds      errors and idle commands a session, each then 421; what one address and one network
            do, then 421 or 450, unless they are trusted; the octets of all messages in flight a
            gateway, then 451 4.3.2.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar, Generic, TypeVar

from gateways.smtp import replies
from gateways.smtp.chunking import Chunks, UnreadableChunk, read_bdat
from gateways.smtp.connection import Connection, EndOfInput, LineTooLong, SessionEnds
from gateways.smtp.data_scanner import DataScanner
from gateways.smtp.origins import Origin
from gateways.smtp.peer_limits import Doing
from gateways.smtp.reception import BytesInFlight, Hold, Reception
from gateways.smtp.trace import Hop
from gateways.smtp.transaction import Transaction
from mail.errors import Invalid, MailError, MessageTooLarge, Overloaded, smtp_reply

CONTROL = re.compile(rb"[\x00-\x1f\x7f]")  # No command has one, a bare CR or LF least of all.
FLOOD_FACTOR = 4  # How many times the size limit is read for the sake of a polite 552.
OF_THE_ENVELOPE = frozenset((b"MAIL", b"RCPT", b"DATA", b"BDAT"))
OF_UNKNOWN_LENGTH = (replies.SyntaxRefused, UnreadableChunk)  # What follows is no command.
OF_NO_USE = frozenset((b"EHLO", b"HELO", b"NOOP", b"RSET", b"VRFY", b"EXPN", b"HELP"))

ReceptionT = TypeVar("ReceptionT", bound=Reception)
TransactionT = TypeVar("TransactionT", bound=Transaction)

log = logging.getLogger(__name__)


class Session(Connection, Generic[ReceptionT, TransactionT]):
    """The server's side of one session."""

    verbs: ClassVar[Mapping[bytes, str]] = {
        verb: f"smtp_{verb.decode()}"
        for verb in (
            b"EHLO", b"HELO", b"STARTTLS", b"MAIL", b"RCPT", b"DATA", b"BDAT", b"RSET", b"NOOP",
            b"QUIT", b"VRFY", b"EXPN", b"HELP",
        )
    }  # fmt: skip
    help: ClassVar[bytes] = replies.HELP

    def __init__(self, reception: ReceptionT, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reception.settings, reception.tls_context, reception.farewells, loop)
        self._reception = reception
        self._helo = ""  # "" until the peer has said who it is
        self._extended = False
        self._transaction: TransactionT | None = None
        self._chunks: Chunks | None = None  # since the first BDAT, also of one that has failed
        self._chunks_hold: Hold | None = None
        self._receiving = False  # while input is a message and not commands
        self._limited: Origin | None = None  # who is counted; None for who is trusted
        self._errors = 0
        self._idle_commands = 0

    @property
    def idle(self) -> bool:
        """Say whether the session can end now without breaking a transaction off."""
        return self._transaction is None and self.waits_for_input

    def close_down(self) -> None:
        """End now: with 421 when it is the peer's turn, else by cutting the connection off."""
        if self.waits_for_input:
            self.end(f"421 4.3.2 {self.hostname} Service is closing")
        else:
            self.abort()

    async def converse(self) -> None:
        """Greet, then answer command by command."""
        reception = self._reception
        reception.sessions.add(self)
        reception.counters.connections += 1
        if len(reception.sessions) > self.settings.connections_max:
            reception.counters.connections_refused += 1
            raise SessionEnds(f"421 4.3.2 {self.hostname} Too many connections, try again later")
        origin = reception.origins.of(self.peer_ip)
        if origin.proxy and self.tls is None:
            self.peer_ip = await self.read_proxy_header() or self.peer_ip
            origin = reception.origins.of(self.peer_ip)
        if not origin.trusted:
            self._admit(origin)
        self.reply(b"220 %s ESMTP Heliograph\r\n" % self.hostname.encode())
        while True:
            if reception.draining and self._transaction is None:
                raise SessionEnds(f"421 4.3.2 {self.hostname} Service is closing")
            verb = b""
            try:
                line = await self.read_line()
                verb, _, argument = line[:-1].partition(b" ")
                verb = verb.upper()
                await self._method(verb, line)(argument.decode().strip(" "))
            except LineTooLong:
                self._refuse(verb, replies.SyntaxRefused("The command line is too long"))
            except MailError as error:
                self._refuse(verb, error)
            except (SessionEnds, EndOfInput):
                raise
            except Exception as error:
                self._break_off(verb, await self.handle_exception(error))

    def _admit(self, origin: Origin) -> None:
        """Count the connection for whom it comes from. Raises SessionEnds."""
        reception = self._reception
        why = reception.peer_limits.connect(origin, self.loop.time())
        if why:
            reception.counters.connections_refused += 1
            reception.counters.limited += 1
            raise SessionEnds(f"421 4.7.0 {self.hostname} {why}, try again later")
        self._limited = origin

    def closed(self) -> None:
        """Leave the gateway."""
        self._forget()
        if self._limited is not None:
            self._reception.peer_limits.disconnect(self._limited)
        sessions = self._reception.sessions
        sessions.discard(self)
        if not sessions:
            self._reception.emptied.set()

    async def handle_exception(self, error: Exception) -> str:
        """Log our fault and return its reply (aiosmtpd's would be a permanent one)."""
        log.error("session of %s: unexpected error", self.peer_ip, exc_info=error)
        return replies.LOCAL_ERROR

    def _method(self, verb: bytes, line: bytes) -> Callable[[str], Awaitable[None]]:
        """Return what answers the verb. Raises SyntaxRefused."""
        demand_clean(line)
        if not line.isascii():
            try:
                line.decode()
            except UnicodeDecodeError:
                raise replies.SyntaxRefused("The line is not UTF-8") from None
        name = self.verbs.get(verb)
        if name is None:
            raise replies.SyntaxRefused("Unknown command")
        if verb in OF_NO_USE:
            self._count_idle()
        method: Callable[[str], Awaitable[None]] = getattr(self, name)
        return method

    def _count_idle(self) -> None:
        self._idle_commands += 1
        if self._idle_commands > self.settings.idle_commands_max:
            raise SessionEnds(f"421 4.7.0 {self.hostname} Too many commands without mail")

    def _refuse(self, verb: bytes, error: MailError) -> None:
        if verb.startswith(b"BDAT") and isinstance(error, OF_UNKNOWN_LENGTH):
            raise SessionEnds(smtp_reply(error))
        self.reply(replies.error_reply(error))
        self._count(verb, permanent=error.smtp.startswith("5"))
        if isinstance(error, Invalid):
            self._errors += 1
            if self._errors >= self.settings.errors_max:
                raise SessionEnds(f"421 4.7.0 {self.hostname} Too many errors")
            self._failed()

    def _failed(self) -> None:
        """Hold an error against whom it comes from."""
        origin = self._limited
        if origin is None:
            return
        if whose := self._reception.peer_limits.fail(origin, self.loop.time()):
            self._reception.counters.limited += 1
            raise SessionEnds(f"421 4.7.0 {self.hostname} Too many errors from your {whose}")

    def _spend(self, doing: Doing, what: str) -> None:
        """Count what the peer does for whom it comes from. Raises TooMuchMail."""
        origin = self._limited
        if origin is None:
            return
        if whose := self._reception.peer_limits.take(origin, doing, self.loop.time()):
            self._reception.counters.limited += 1
            raise replies.TooMuchMail(f"Too many {what} from your {whose}, try again later")

    def _break_off(self, verb: bytes, reply: str) -> None:
        """Answer an error of ours. In the midst of DATA nothing but the end can follow."""
        self._count(verb, permanent=False)
        if self._receiving:
            raise SessionEnds(reply)
        self.reply(f"{reply}\r\n".encode())

    def _count(self, verb: bytes, *, permanent: bool) -> None:
        if verb in OF_THE_ENVELOPE:
            counters = self._reception.counters
            counters.refused += permanent
            counters.deferred += not permanent

    # Session commands ---------------------------------------------------------------------

    async def smtp_EHLO(self, hostname: str) -> None:
        """Name our extensions; it also ends a transaction (RFC 5321 §4.1.4)."""
        self._greeted(hostname, extended=True)
        starttls = self.tls_context is not None and self.tls is None
        self.reply(self.extensions(starttls=starttls))
        await self.flush()

    def extensions(self, *, starttls: bool) -> bytes:
        """Return the reply to EHLO."""
        raise NotImplementedError

    async def smtp_HELO(self, hostname: str) -> None:
        """Begin without extensions."""
        self._greeted(hostname, extended=False)
        self.reply(b"250 %s\r\n" % self.hostname.encode())

    def _greeted(self, hostname: str, *, extended: bool) -> None:
        hostname = hostname.strip()
        if not hostname:
            raise Invalid("Syntax: EHLO hostname")
        self._helo = hostname
        self._extended = extended
        self._forget()

    async def smtp_STARTTLS(self, arg: str) -> None:
        """Go over to TLS; the session begins anew after it (RFC 3207 §4.2)."""
        if arg:
            raise Invalid("STARTTLS takes no argument")
        if self.tls is not None:
            raise replies.OutOfSequence("TLS is in use already")
        if self.tls_context is None:
            raise replies.NotImplementedHere
        self._helo, self._extended = "", False
        self._forget()
        self.reply(replies.START_TLS)
        await self.start_tls()

    async def smtp_NOOP(self, arg: str) -> None:
        """Do nothing; an argument is ignored (RFC 5321 §4.1.1.9)."""
        self.reply(replies.OK)
        await self.flush()

    async def smtp_RSET(self, arg: str | None) -> None:
        """Forget the transaction."""
        if arg:
            raise Invalid("RSET takes no argument")
        self._forget()
        self.reply(replies.OK)

    async def smtp_QUIT(self, arg: str) -> None:
        """Say good-bye."""
        if arg:
            raise Invalid("QUIT takes no argument")
        raise SessionEnds(f"221 2.0.0 {self.hostname} Bye")

    async def smtp_VRFY(self, arg: str) -> None:
        """Tell nobody who is here (RFC 5321 §7.3)."""
        if not arg:
            raise Invalid("Syntax: VRFY address")
        self.reply(replies.CANNOT_VERIFY)
        await self.flush()

    async def smtp_EXPN(self, arg: str) -> None:
        """Tell nobody who is on a list either."""
        raise replies.NotImplementedHere

    async def smtp_HELP(self, arg: str) -> None:
        """List the commands."""
        self.reply(self.help)

    # Transactions -------------------------------------------------------------------------

    def _demand_turn(self) -> None:
        """Return when a transaction may begin. Raises OutOfSequence."""
        if not self._helo:
            raise replies.OutOfSequence("Say EHLO first")
        if self._transaction is not None:
            raise replies.OutOfSequence("A transaction has begun already")

    def _begin(self, transaction: TransactionT) -> None:
        """Begin a transaction, if there is room for a message of the size it declares."""
        if not self._reception.in_flight.has_room(transaction.mail.size_bytes):
            raise Overloaded
        self._spend(Doing.MESSAGE, "messages")
        self._forget()
        self._transaction = transaction
        self.reply(replies.SENDER_OK)

    def _demand_envelope(self) -> TransactionT:
        """Return the transaction if it may still get recipients. Raises OutOfSequence."""
        transaction = self._begun()
        if self._chunks is not None:
            raise replies.OutOfSequence("The message has begun")
        return transaction

    async def smtp_DATA(self, arg: str | None) -> None:
        """Take the message, and answer 250 once it is stored for every recipient."""
        if self._chunks is not None:  # RFC 3030 §2
            raise replies.OutOfSequence("BDAT has begun")
        transaction = self._begun()
        if arg:
            raise Invalid("DATA takes no argument")
        transaction.demand_recipients()
        if transaction.mail.binary:  # RFC 3030 §3
            raise replies.OutOfSequence("BINARYMIME comes by BDAT")
        in_flight = self._demand_room(transaction)
        self.reply(replies.START_DATA)
        await self.flush()
        try:
            with Hold(in_flight) as hold:
                await self._take(transaction, await self._receive(hold))
        finally:
            self._forget()
        await self.flush()

    async def smtp_BDAT(self, arg: str) -> None:
        """Take one chunk of the message; with the last one, answer as DATA does (RFC 3030 §2).

        After a failure, that chunk and all that follow it are read, thrown away and answered
        alike until RSET or another MAIL: who pipelines looks at the last answer perhaps only.
        """
        chunk_bytes, last = read_bdat(arg)
        chunks = self._chunks
        failed_before = chunks is not None and chunks.failure is not None
        if not chunk_bytes and (failed_before or not last):
            self._count_idle()
        if chunks is None:
            chunks = self._begin_chunks()
        if chunks.size_bytes + chunk_bytes > FLOOD_FACTOR * self.settings.size_bytes_max:
            raise SessionEnds("552 5.3.4 Far too much data")
        await self._receive_chunk(chunks, chunk_bytes)
        transaction = self._transaction
        if chunks.failure is not None:
            self._forget()
            self._chunks = chunks
            if not failed_before:
                raise chunks.failure
            self.reply(replies.error_reply(chunks.failure))
        elif not last:
            self.reply(b"250 2.0.0 %d octets received\r\n" % chunk_bytes)
        else:
            assert transaction is not None
            try:
                await self._take(transaction, chunks.message())
            finally:
                self._forget()

    def _begin_chunks(self) -> Chunks:
        chunks = self._chunks = Chunks(self.settings.size_bytes_max)
        try:
            if not self._extended:
                raise replies.OutOfSequence("BDAT needs EHLO")
            transaction = self._begun()
            transaction.demand_recipients()
            self._demand_room(transaction)
        except MailError as error:
            chunks.fail(error)
        self.start_data()
        return chunks

    async def _receive_chunk(self, chunks: Chunks, chunk_bytes: int) -> None:
        """Take the octets of a chunk, or throw them away."""
        chunks.announce(chunk_bytes)
        hold = self._chunks_hold
        if hold is None:
            hold = self._chunks_hold = Hold(self._reception.in_flight)
        self._receiving = True
        while chunk_bytes:
            octets = await self.read_chunk(chunk_bytes)
            chunk_bytes -= len(octets)
            if chunks.failure is None and not hold.grow(len(octets)):
                chunks.fail(Overloaded())
            chunks.feed(octets)
            if chunks.failure is not None:
                hold.release()
        self._receiving = False

    def _begun(self) -> TransactionT:
        if self._transaction is None:
            raise replies.OutOfSequence("MAIL comes first")
        return self._transaction

    def _demand_room(self, transaction: TransactionT) -> BytesInFlight:
        """Return what the message is to be counted in, if as much as was declared fits."""
        in_flight = self._reception.in_flight
        if not in_flight.has_room(max(1, transaction.mail.size_bytes)):
            raise Overloaded
        return in_flight

    def _forget(self) -> None:
        """End the transaction, whatever has come of it."""
        self._transaction = self._chunks = None
        if self._chunks_hold is not None:
            self._chunks_hold.release()
            self._chunks_hold = None

    async def _receive(self, hold: Hold) -> bytes:
        """Return the message. Raises MessageTooLarge and Overloaded after its end has come."""
        scanner = DataScanner(self.settings.size_bytes_max)
        flood_bytes = FLOOD_FACTOR * self.settings.size_bytes_max
        overloaded = False
        rest = None
        self._receiving = True
        self.start_data()
        while rest is None:
            chunk = await self.read_chunk()
            if not scanner.discarding and not hold.grow(len(chunk)):
                overloaded = True
                scanner.discard()
            rest = scanner.feed(chunk)
            if scanner.discarding:
                hold.release()
                if scanner.size_bytes > flood_bytes:
                    raise SessionEnds("552 5.3.4 Far too much data")
        self._receiving = False
        self.put_back(rest)
        if scanner.too_large:
            raise MessageTooLarge
        if overloaded:
            raise Overloaded
        return scanner.message()

    async def _take(self, transaction: TransactionT, received: bytes) -> None:
        """Store the message, and only then say so."""
        raise NotImplementedError

    def _hop(self, transaction: TransactionT) -> Hop:
        """Return what the trace of a message tells of this session."""
        reception = self._reception
        return Hop(
            peer_ip=self.peer_ip,
            helo=self._helo,
            hostname=self.hostname,
            extended=self._extended,
            smtputf8=transaction.mail.smtputf8,
            tls=self.tls,
            transaction_id=reception.next_id(),
            received_at_ms=int(reception.clock() * 1000),
        )

    def _taken(self, queue_id: str) -> None:
        self._idle_commands = 0
        self.came_through()
        self.reply(f"250 2.0.0 Ok: queued as {queue_id}\r\n".encode())


def demand_clean(line: bytes) -> None:
    """Return when a line ends as it should and holds no control character; SyntaxRefused."""
    if not line.endswith(b"\r") or CONTROL.search(line, 0, len(line) - 1):
        raise replies.SyntaxRefused("A line ends with CRLF and has no other control character")
