"""Read the arguments of MAIL and RCPT (RFC 5321 §4.1.1.2, §4.1.1.3) and their parameters.

Pure. Every error is a MailError and so carries the reply to give.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mail.address import Address, parse_path
from mail.dsn_options import (
    MailOptions,
    RcptOptions,
    decode_xtext,
    take_mail_options,
    take_rcpt_options,
)
from mail.errors import Invalid, InvalidAddress, MessageTooLarge

# A path ends at the first ">" outside of a quoted local part.
PATH = re.compile(r'<((?:[^"<>\\]|"(?:[^"\\]|\\.)*")*)>')
SIZE = re.compile(r"[0-9]{1,20}", re.ASCII)  # RFC 1870 §4
BODY_TYPES = ("7BIT", "8BITMIME", "BINARYMIME")  # RFC 6152 §2, RFC 3030 §3


class UnknownParameter(Invalid):
    """This parameter is not known here."""

    smtp = "555 5.5.4"


class InvalidSender(InvalidAddress):
    """The sender's address is not valid."""

    smtp = "501 5.1.7"


class SmtpUtf8Needed(Invalid):
    """An address beyond ASCII needs SMTPUTF8."""

    smtp = "553 5.6.7"


class MailCommand(NamedTuple):
    """MAIL, read."""

    reverse_path: str  # as the peer gave it, "" for the null one
    size_bytes: int = 0  # as declared (RFC 1870 §3), 0 when it was not
    smtputf8: bool = False
    binary: bool = False  # comes by BDAT only (RFC 3030 §3)


class Submitted(NamedTuple):
    """What only MAIL of a submission says."""

    mail_from: Address | None  # None: the null reverse path
    eight_bit: bool  # BODY=8BITMIME
    options: MailOptions


def read_mail(argument: str, *, extended: bool, size_bytes_max: int) -> MailCommand:
    """Read what follows `MAIL`. Raises Invalid and its kind, MessageTooLarge."""
    path, parameters = _split(argument, "FROM:", "MAIL FROM:<address>", extended=extended)
    body = _take_body(parameters, BODY_TYPES)
    mail, _ = _mail(path, parameters, size_bytes_max)
    return mail._replace(binary=body == "BINARYMIME")


def read_submission(argument: str, *, size_bytes_max: int) -> tuple[MailCommand, Submitted]:
    """Read what follows `MAIL` in a submission: AUTH and the options of DSN, but no BINARYMIME.

    Who says in AUTH whose message it is, is not believed (RFC 4954 §5); who has signed in counts.
    """
    path, parameters = _split(argument, "FROM:", "MAIL FROM:<address>", extended=True)
    body = _take_body(parameters, BODY_TYPES[:2])
    if "AUTH" in parameters and (said := parameters.pop("AUTH")) != "<>":
        decode_xtext(said or "")
    options = take_mail_options(parameters)
    mail, mail_from = _mail(path, parameters, size_bytes_max)
    return mail, Submitted(mail_from, body == "8BITMIME", options)


def _mail(
    path: str, parameters: dict[str, str | None], size_bytes_max: int
) -> tuple[MailCommand, Address | None]:
    smtputf8 = _take_flag(parameters, "SMTPUTF8")
    size_bytes = _take_size(parameters)
    _refuse_others(parameters)
    if not smtputf8 and not path.isascii():
        raise SmtpUtf8Needed
    if size_bytes > size_bytes_max:
        raise MessageTooLarge(f"This server takes messages of at most {size_bytes_max} bytes")
    try:
        address = parse_path(f"<{path}>")
    except InvalidAddress as error:
        raise InvalidSender(error.text) from None
    return MailCommand(_without_route(path), size_bytes, smtputf8), address


def read_rcpt(argument: str, *, extended: bool, smtputf8: bool) -> tuple[Address, str]:
    """Read what follows `RCPT`; return the address, and the path as the peer gave it."""
    path, parameters = _split(argument, "TO:", "RCPT TO:<address>", extended=extended)
    _refuse_others(parameters)
    return _recipient(path, smtputf8=smtputf8), _without_route(path)


def read_submission_rcpt(argument: str, *, smtputf8: bool) -> tuple[Address, RcptOptions]:
    """Read what follows `RCPT` in a submission, with the options of DSN."""
    path, parameters = _split(argument, "TO:", "RCPT TO:<address>", extended=True)
    options = take_rcpt_options(parameters, smtputf8=smtputf8)
    _refuse_others(parameters)
    return _recipient(path, smtputf8=smtputf8), options


def _recipient(path: str, *, smtputf8: bool) -> Address:
    if not smtputf8 and not path.isascii():
        raise SmtpUtf8Needed
    address = parse_path(f"<{path}>")
    if address is None:
        raise InvalidAddress("A recipient cannot be empty")
    return address


def _without_route(path: str) -> str:
    """Take a source route off; it is to be ignored (RFC 5321 §4.1.1.3)."""
    return path.partition(":")[2] if path.startswith("@") else path


def _split(
    argument: str, keyword: str, syntax: str, *, extended: bool
) -> tuple[str, dict[str, str | None]]:
    """Return what is between the angle brackets, and the parameters after them."""
    if argument[: len(keyword)].upper() != keyword:
        raise Invalid(f"Syntax: {syntax}")
    # Blanks after the colon and bare addresses are not in the grammar; many peers send them.
    rest = argument[len(keyword) :].strip(" ")
    if (match := PATH.match(rest)) is not None:
        path, rest = match[1], rest[match.end() :]
    elif rest and rest[0] not in "<>":
        path, _, rest = rest.partition(" ")
        rest = " " + rest if rest else ""
    else:
        raise Invalid(f"Syntax: {syntax}")
    if rest and rest[0] != " ":
        raise Invalid(f"Syntax: {syntax}")
    words = rest.split()
    return path, _parameters(words, extended=extended) if words else {}


def _parameters(words: list[str], *, extended: bool) -> dict[str, str | None]:
    if not extended:
        raise UnknownParameter("Parameters need EHLO")
    parameters: dict[str, str | None] = {}
    for word in words:
        keyword, equals, value = word.partition("=")
        keyword = keyword.upper()
        if keyword in parameters or (equals and not value):
            raise Invalid(f"Bad parameter {keyword[:40]}")
        parameters[keyword] = value if equals else None
    return parameters


def _take_flag(parameters: dict[str, str | None], keyword: str) -> bool:
    if keyword not in parameters:
        return False
    if parameters.pop(keyword) is not None:
        raise Invalid(f"{keyword} takes no value")
    return True


def _take_size(parameters: dict[str, str | None]) -> int:
    if "SIZE" not in parameters:
        return 0
    value = parameters.pop("SIZE")
    if value is None or not SIZE.fullmatch(value):
        raise Invalid("SIZE is a number of bytes")
    return int(value)


def _take_body(parameters: dict[str, str | None], types: tuple[str, ...]) -> str:
    body = (parameters.pop("BODY", "7BIT") or "").upper()
    if body not in types:
        raise Invalid(f"BODY can be {', '.join(types[:-1])} or {types[-1]}")
    return body


def _refuse_others(parameters: dict[str, str | None]) -> None:
    if parameters:
        raise UnknownParameter(f"Unknown parameter {next(iter(parameters))[:40]}")
