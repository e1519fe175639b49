"""Errors of the mail domain, each with its wire form; an unknown error is temporary.

`smtp` is a reply code with its enhanced status code (RFC 3463), `jmap` an error type
of RFC 8620 §3.6 or §5.3. The text of an error is for people and never holds a subject,
a body, a password or a token.
"""

from __future__ import annotations

from typing import ClassVar


class MailError(Exception):
    """Say that something went wrong in a way a peer may be told."""

    smtp: ClassVar[str] = "451 4.3.0"
    jmap: ClassVar[str] = "serverFail"

    @property
    def text(self) -> str:
        """Return one line for people."""
        return str(self.args[0]) if self.args else (self.__doc__ or "").splitlines()[0]


class Unavailable(MailError):
    """Temporarily not available, try again later."""

    smtp = "451 4.3.0"
    jmap = "serverUnavailable"


class OutcomeUnknown(Unavailable):
    """The operation may or may not have happened; repeat it with the same request id ."""


class NotPrimary(Unavailable):
    """This replica does not lead its shard now."""


class Overloaded(Unavailable):
    """Too much work is waiting; try again later."""

    smtp = "451 4.3.2"


class ShardDamaged(Unavailable):
    """The shard's data on disk is damaged and it is out of service."""

    smtp = "451 4.3.5"


class BlobDamaged(MailError):
    """The content of this message is damaged on disk and cannot be read."""

    smtp = "451 4.3.5"


class DiskFull(Unavailable):
    """The disk is full; reads are served, writes are refused."""

    smtp = "452 4.3.1"


class MailboxFull(Unavailable):
    """The mailbox is full now; its owner may make room (RFC 5321 §4.2.3, RFC 3463 §3.3)."""

    smtp = "452 4.2.2"
    jmap = "overQuota"


class RequestExpired(Unavailable):
    """The request id is older than the time for which replies are remembered."""


class Invalid(MailError):
    """The request is not valid."""

    smtp = "501 5.5.4"
    jmap = "invalidArguments"


class InvalidAddress(Invalid):
    """The address is not valid (RFC 5321 §4.1.2)."""

    smtp = "501 5.1.3"


class NoSuchMailbox(MailError):
    """There is no such mailbox here (RFC 5321 §3.3)."""

    smtp = "550 5.1.1"
    jmap = "accountNotFound"


class RelayDenied(MailError):
    """This server does not relay for that domain."""

    smtp = "550 5.7.1"
    jmap = "forbidden"


class MessageTooLarge(MailError):
    """The message is larger than this server takes (RFC 1870 §6.3)."""

    smtp = "552 5.3.4"
    jmap = "tooLarge"


class OverQuota(MailError):
    """The message does not fit into the mailbox (RFC 5321 §4.2.3, RFC 3463 §3.3)."""

    smtp = "552 5.2.2"
    jmap = "overQuota"


class TooManyHops(MailError):
    """The message has too many Received fields (RFC 5321 §6.3)."""

    smtp = "554 5.4.6"
    jmap = "invalidEmail"


class ForbiddenFrom(MailError):
    """The account may not write in the name of this author (RFC 6409 §6.1, RFC 8621 §7.5)."""

    smtp = "550 5.7.1"
    jmap = "forbiddenFrom"


class ForbiddenMailFrom(MailError):
    """The account may not send from this envelope address (RFC 6409 §6.1, RFC 8621 §7.5)."""

    smtp = "550 5.7.1"
    jmap = "forbiddenMailFrom"


class ConversionRefused(MailError):
    """The next server takes 7-bit mail only and the message cannot be converted (RFC 6152 §3)."""

    smtp = "554 5.6.3"
    jmap = "invalidEmail"


class NeedsSmtputf8(ConversionRefused):
    """The message needs SMTPUTF8 and the next server does not offer it (RFC 6531 §3.5)."""

    smtp = "550 5.6.7"


class SrsRefused(NoSuchMailbox):
    """The rewritten return address is not one that this server made."""


class SrsTooLong(MailError):
    """The return address is too long to be rewritten."""

    smtp = "550 5.1.7"
    jmap = "invalidArguments"


class SignInRefused(MailError):
    """The name or the password is wrong."""

    smtp = "535 5.7.8"
    jmap = "forbidden"


class SignUpRefused(MailError):
    """This address cannot be given: choose another, or check the invitation."""

    smtp = "550 5.7.1"
    jmap = "forbidden"


class TooManySignUps(Overloaded):
    """Too many accounts are being made; try again tomorrow."""


class AlreadyExists(MailError):
    """That name is taken."""

    smtp = "550 5.1.0"
    jmap = "alreadyExists"


class NotFound(MailError):
    """That does not exist."""

    smtp = "550 5.1.0"
    jmap = "notFound"


class CannotCalculateChanges(MailError):
    """The state is too old or unknown (RFC 8620 §5.2)."""

    jmap = "cannotCalculateChanges"


def smtp_reply(error: BaseException) -> str:
    """Return `code enhanced text`; an error that we do not know is ours, therefore 4yz."""
    if isinstance(error, MailError):
        return f"{error.smtp} {error.text}"
    return f"{MailError.smtp} Local error, try again later"
