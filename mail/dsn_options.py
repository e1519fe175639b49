r"""DsnOptions: what a sender asks about delivery status notifications (RFC 3461, RFC 6533 §3).

    MAIL FROM:<…> RET=FULL|HDRS ENVID=xtext
    RCPT TO:<…>   NOTIFY=NEVER | NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;xtext | utf-8;…

Pure. `take_…` takes its parameters out of those of a command and leaves the others;
`…_parameters` writes them for the next server. The structs rest in queue entries: fields are only
appended, with defaults. Raises Invalid (501 5.5.4).

`xtext` writes an octet as `+41`; `utf-8` addresses write a character as `\x{AC00}`, which passes
through xtext unchanged, so that servers that know nothing of it do it no harm.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from enum import StrEnum

import msgspec

from mail.address import parse_address
from mail.errors import Invalid, InvalidAddress

ENVID_CHARS_MAX = 100  # RFC 3461 §4.4.
ORCPT_CHARS_MAX = 500  # RFC 3461 §4.2.

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})*", re.ASCII)
_HEXCHAR = re.compile(r"\+([0-9A-Fa-f]{2})")
_PRINTABLE = re.compile(r"[\t -~]*")  # RFC 3461 §4.4: graphic and white space.
_NOT_XCHAR = re.compile(r"[^!-*,-<>-~]")
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+")
# RFC 6533 §3: QUCHAR, or a code point by its number.
_UNITEXT = re.compile(r"(?:[!-*,-<>-\[\]-~]|[^\x00-\x7f]|\\x\{[0-9A-Fa-f]{2,6}\})+")
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_BY_NUMBER = frozenset(map(ord, " +=\\"))
_NOT_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")
_ASCII_NOT_QCHAR = re.compile(r"[\x00- +=\\\x7f]")


class Ret(StrEnum):
    """What of the message comes back with a notification of failure (RFC 3461 §4.3)."""

    FULL = "FULL"
    HDRS = "HDRS"


class Notify(StrEnum):
    """What the sender wants to hear of a recipient (RFC 3461 §4.1)."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


NotifyWish = tuple[Notify, ...] | None  # () is NEVER, None is nothing said


class OriginalRecipient(msgspec.Struct, frozen=True, array_like=True):
    """Whom the sender wrote to, decoded; `address_type` is `rfc822`, `utf-8` or another."""

    address_type: str
    address: str

    @property
    def is_utf8(self) -> bool:
        return self.address_type.lower() == "utf-8"


class MailOptions(msgspec.Struct, frozen=True, array_like=True):
    """The parameters of MAIL; `envid` is decoded, empty when there is none."""

    ret: Ret | None = None
    envid: str = ""


class RcptOptions(msgspec.Struct, frozen=True, array_like=True):
    """The parameters of RCPT."""

    notify: NotifyWish = None
    original_recipient: OriginalRecipient | None = None


def take_mail_options(parameters: MutableMapping[str, str | None]) -> MailOptions:
    """Take RET and ENVID out of `parameters`, whose keywords are in upper case."""
    ret: Ret | None = None
    if "RET" in parameters:
        try:
            ret = Ret((parameters.pop("RET") or "").upper())
        except ValueError:
            raise Invalid("RET can be FULL or HDRS") from None
    envid = ""
    if "ENVID" in parameters:
        text = parameters.pop("ENVID")
        if not text or len(text) > ENVID_CHARS_MAX:
            raise Invalid(f"ENVID has 1 to {ENVID_CHARS_MAX} characters")
        envid = decode_xtext(text)
    return MailOptions(ret, envid)


def take_rcpt_options(
    parameters: MutableMapping[str, str | None], *, smtputf8: bool
) -> RcptOptions:
    """Take NOTIFY and ORCPT out of `parameters`, whose keywords are in upper case."""
    notify: NotifyWish = None
    if "NOTIFY" in parameters:
        notify = _parse_notify(parameters.pop("NOTIFY") or "")
    original: OriginalRecipient | None = None
    if "ORCPT" in parameters:
        original = parse_orcpt(parameters.pop("ORCPT") or "", smtputf8=smtputf8)
    return RcptOptions(notify, original)


def mail_parameters(options: MailOptions) -> tuple[str, ...]:
    """Return the parameters of MAIL for a server that offers DSN (RFC 3461 §5.2.1)."""
    words = [] if options.ret is None else [f"RET={options.ret}"]
    if options.envid:
        words.append(f"ENVID={encode_xtext(options.envid)}")
    return tuple(words)


def rcpt_parameters(options: RcptOptions, *, smtputf8: bool) -> tuple[str, ...]:
    """Return the parameters of RCPT for a server that offers DSN (RFC 3461 §5.2.1).

    `smtputf8` says that the transaction uses it: only then may characters beyond ASCII be sent.
    """
    words = []
    if options.notify is not None:
        words.append(f"NOTIFY={','.join(options.notify) or 'NEVER'}")
    if (original := options.original_recipient) is not None:
        if original.is_utf8:
            address = encode_utf8_address(original.address, smtputf8=smtputf8)
        else:
            address = encode_xtext(original.address)
        words.append(f"ORCPT={original.address_type};{address}")
    return tuple(words)


def parse_orcpt(text: str, *, smtputf8: bool) -> OriginalRecipient:
    """Return what `address-type;address` says (RFC 3461 §4.2, RFC 6533 §3). Raises Invalid."""
    address_type, semicolon, encoded = text.partition(";")
    if len(text) > ORCPT_CHARS_MAX or not semicolon or not encoded:
        raise Invalid(f"ORCPT is type;address of at most {ORCPT_CHARS_MAX} characters")
    if _ATOM.fullmatch(address_type) is None:
        raise Invalid("The address type of ORCPT is not valid")
    if address_type.lower() != "utf-8":
        return OriginalRecipient(address_type, decode_xtext(encoded))
    if not smtputf8 and not encoded.isascii():
        raise Invalid("ORCPT beyond ASCII needs SMTPUTF8")
    address = decode_utf8_address(encoded)
    try:
        parse_address(address)  # RFC 6533 §3: once decoded it is one.
    except InvalidAddress as error:
        raise Invalid(f"ORCPT: {error.text}") from None  # 501 5.5.4: not the envelope's address.
    return OriginalRecipient(address_type, address)


def _parse_notify(text: str) -> tuple[Notify, ...]:
    """Return the wishes in one order, whatever order they came in; () for NEVER."""
    words = text.upper().split(",")
    if words == ["NEVER"]:
        return ()
    if not all(word in Notify.__members__ for word in words):
        raise Invalid("NOTIFY can be NEVER, or a list of SUCCESS, FAILURE and DELAY")
    return tuple(wish for wish in Notify if wish in words)


def decode_xtext(text: str) -> str:
    """Return what xtext stands for, printable ASCII (RFC 3461 §4). Raises Invalid.

    The digits should be in upper case; some senders write others, and the meaning is clear.
    """
    if _XTEXT.fullmatch(text) is None:
        raise Invalid("That is not xtext")
    decoded = _HEXCHAR.sub(lambda match: chr(int(match[1], 16)), text)
    if _PRINTABLE.fullmatch(decoded) is None:
        raise Invalid("xtext may hold printable ASCII only")
    return decoded


def encode_xtext(text: str) -> str:
    """Return `text` as xtext; beyond ASCII, the octets of its UTF-8 (RFC 3461 §4)."""

    def hexchars(match: re.Match[str]) -> str:
        return "".join(f"+{octet:02X}" for octet in match[0].encode("utf-8", "replace"))

    return _NOT_XCHAR.sub(hexchars, text)


def decode_utf8_address(text: str) -> str:
    r"""Return the address of `utf-8;…`: either form, and `\x{…}` undone (RFC 6533 §3).

    Raises Invalid. Only what must be written by its number may be: a blank, `+`, `=`, `\`, and
    characters beyond ASCII that are neither control characters nor halves of others.
    """
    if _UNITEXT.fullmatch(text) is None:
        raise Invalid("That is not an address of type utf-8")
    return _EMBEDDED.sub(_embedded, text)


def _embedded(match: re.Match[str]) -> str:
    digits = match[1].upper()
    point = int(digits, 16)
    needed = point in _BY_NUMBER or (0xA0 <= point <= 0x10FFFF and not 0xD800 <= point <= 0xDFFF)
    if not needed or f"{point:X}" != digits:
        raise Invalid(f"\\x{{{digits}}} may not stand in an address")
    return chr(point)


def encode_utf8_address(address: str, *, smtputf8: bool = False) -> str:
    r"""Return `address` as utf-8-addr-xtext: ASCII, `\x{AC00}` for others (RFC 6533 §3).

    With `smtputf8` as utf-8-addr-unitext, where characters beyond ASCII stand for themselves.
    """
    pattern = _ASCII_NOT_QCHAR if smtputf8 else _NOT_QCHAR
    return pattern.sub(lambda match: f"\\x{{{ord(match[0]):02X}}}", address)
