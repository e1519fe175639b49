"""Replies of the SMTP server: its own errors, and the line that an error makes.

Every reply after EHLO carries an enhanced status code (RFC 2034 §4, RFC 3463); 354 has none.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mail.errors import Invalid, SignInRefused, Unavailable, smtp_reply

REPLY_CHARS_MAX = 500  # RFC 5321 §4.5.3.1.5: 512 octets with CRLF
CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")

LOCAL_ERROR = "451 4.3.0 Local error, try again later"
SENDER_OK = b"250 2.1.0 Sender ok\r\n"
RECIPIENT_OK = b"250 2.1.5 Recipient ok\r\n"
START_DATA = b"354 End data with <CR><LF>.<CR><LF>\r\n"
OK = b"250 2.0.0 Ok\r\n"
AUTHENTICATED = b"235 2.7.0 Authentication succeeded\r\n"
START_TLS = b"220 2.0.0 Ready to start TLS\r\n"
CANNOT_VERIFY = b"252 2.0.0 Cannot verify, but will take mail and try to deliver it\r\n"
HELP = b"214 2.0.0 Commands: EHLO HELO STARTTLS MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\r\n"
SUBMISSION_HELP = HELP.replace(b"STARTTLS", b"STARTTLS AUTH")


class SyntaxRefused(Invalid):
    """The line is not a command."""

    smtp = "500 5.5.2"


class NotImplementedHere(Invalid):
    """That command is not implemented."""

    smtp = "502 5.5.1"


class OutOfSequence(Invalid):
    """Bad sequence of commands (RFC 5321 §4.1.4)."""

    smtp = "503 5.5.1"


class NoValidRecipients(Invalid):
    """None of the recipients was valid (RFC 5321 §3.3)."""

    smtp = "554 5.5.1"


class TooManyRecipients(Unavailable):
    """Too many recipients, send the rest in another transaction (RFC 5321 §4.5.3.1.10)."""

    smtp = "452 4.5.3"


class TooMuchMail(Unavailable):
    """Too much mail from there, try again later."""

    smtp = "450 4.7.1"


class AuthenticationRequired(Invalid):
    """Sign in first: STARTTLS where the connection is not encrypted, then AUTH."""

    smtp = "530 5.7.0"


class EncryptionRequired(Invalid):
    """Say STARTTLS first: passwords go over encrypted connections only (RFC 4954 §6)."""

    smtp = "538 5.7.11"


class AuthenticationCancelled(Invalid):
    """The sign-in was cancelled (RFC 4954 §4)."""

    smtp = "501 5.7.0"


class AuthenticationLineTooLong(Invalid):
    """The line is longer than any mechanism needs (RFC 4954 §6)."""

    smtp = "500 5.5.6"


class CannotAuthenticateNow(Unavailable):
    """Nobody can be signed in at this moment, try again later (RFC 4954 §6)."""

    smtp = "454 4.7.0"


class MayNotSend(SignInRefused):
    """This password may not be used for sending mail (RFC 4954 §6)."""


class NotFullyQualified(Invalid):
    """The domain is not fully qualified (RFC 6409 §4.2)."""

    smtp = "554 5.1.2"


class TooMuchSent(Unavailable):
    """The account has sent too much, try again later."""

    smtp = "450 4.7.1"


def error_reply(error: BaseException) -> bytes:
    """Return the reply line of an error: one line of ASCII, whatever its text holds."""
    text = CONTROLS.sub(" ", smtp_reply(error).replace("§", "section "))
    return text[:REPLY_CHARS_MAX].encode("ascii", "replace") + b"\r\n"


@lru_cache(maxsize=16)
def ehlo_reply(hostname: str, size_bytes_max: int, *, starttls: bool) -> bytes:
    """Return the answer to EHLO (RFC 5321 §4.1.1.1)."""
    lines = [
        hostname,
        "PIPELINING",  # RFC 2920
        f"SIZE {size_bytes_max}",  # RFC 1870
        "8BITMIME",  # RFC 6152
        "BINARYMIME",  # RFC 3030 §3
        "CHUNKING",  # RFC 3030 §2
        "SMTPUTF8",  # RFC 6531
        "ENHANCEDSTATUSCODES",  # RFC 2034
    ]
    if starttls:
        lines.append("STARTTLS")  # RFC 3207
    return _several(lines)


@lru_cache(maxsize=16)
def submission_ehlo_reply(
    hostname: str, size_bytes_max: int, *, starttls: bool, mechanisms: tuple[str, ...]
) -> bytes:
    """Return the answer to EHLO in a submission (RFC 6409 §7)."""
    lines = [
        hostname,
        "PIPELINING",
        f"SIZE {size_bytes_max}",
        "8BITMIME",
        "CHUNKING",
        "SMTPUTF8",
        "DSN",  # RFC 3461
        "ENHANCEDSTATUSCODES",
    ]
    if starttls:
        lines.append("STARTTLS")
    if mechanisms:
        lines.append(f"AUTH {' '.join(mechanisms)}")  # RFC 4954
    return _several(lines)


def _several(lines: list[str]) -> bytes:
    """Return one reply of several lines."""
    *others, last = lines
    return ("".join(f"250-{line}\r\n" for line in others) + f"250 {last}\r\n").encode()
