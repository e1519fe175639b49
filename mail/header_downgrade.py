"""HeaderDowngrade: the header of a part with raw UTF-8, or other 8-bit text, as ASCII.

Pure. A field that is ASCII stays as it is, octet for octet; of the others the text says the same
afterwards. What is allowed where:

    addresses         names and groups: encoded-words (RFC 2047 §5); domains: A-labels
    MIME parameters   the extended form (RFC 2231 §4)
    free text         encoded-words; so are fields that nobody knows
    all else          nothing: ids, traces, signatures need SMTPUTF8 (RFC 6532 §3)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

from mail.address import parse_address
from mail.address_list import ADDRESSES_MAX
from mail.encoded import PARAMETERS_BYTES_MAX, decode_parameter, parse_parameters
from mail.errors import ConversionRefused, InvalidAddress, NeedsSmtputf8
from mail.fields import address_list, grouped_address_list, plain, unstructured
from mail.headers import VALUE_BYTES_MAX, as_grouped_addresses, as_text
from mail.mime import Part
from mail.summary import EmailAddress

HEADER_BYTES_MAX = 1 << 20  # Gone through field by field; headers have a hundredth of it.
EXTENDED_CHARS_MAX = 54  # Of one piece of a parameter, so that its line stays below 78.

_LINE = re.compile(rb"(?:([!-9;-~]+)[ \t]*:)?([^\n]*+(?:\n[ \t][^\n]*+)*+\n?)")
_TOKEN = re.compile(r"[A-Za-z0-9!#$&+.^_`{|}~-]+")
_SAFE_EMAIL = re.compile(r"[!#-'*+./-9=?A-Z^-~-]+(?:@[!#-'*+./-9=?A-Z^-~-]+)?")

_ADDRESSES = frozenset(
    (
        "from", "sender", "reply-to", "to", "cc", "bcc", "resent-from", "resent-sender",
        "resent-to", "resent-cc", "resent-bcc", "resent-reply-to", "disposition-notification-to",
        "return-receipt-to", "errors-to", "mail-followup-to", "mail-reply-to", "apparently-to",
        "list-id",
    )
)  # fmt: skip
_PARAMETERS = frozenset(("content-type", "content-disposition"))
# The grammar of these has no place for encoded-words outside comments, or they are not ours
# to rewrite.
_RIGID = frozenset(
    (
        "message-id", "in-reply-to", "references", "date", "received", "return-path",
        "resent-date", "resent-message-id", "mime-version", "content-transfer-encoding",
        "content-id", "content-location", "content-language", "content-base", "dkim-signature",
        "domainkey-signature", "authentication-results", "received-spf", "auto-submitted",
        "arc-seal", "arc-message-signature", "arc-authentication-results", "delivered-to",
        "list-help", "list-post", "list-owner", "list-archive", "list-subscribe",
        "list-unsubscribe", "list-unsubscribe-post", "original-recipient", "autocrypt",
        "newsgroups", "precedence", "priority", "importance", "sensitivity", "tls-required",
    )
)  # fmt: skip


def downgrade(
    part: Part, hint: str | None, *, encoding: str | None, is_message: bool, body: bytes = b""
) -> bytes:
    """Return the header of a part as ASCII, with the blank line.

    `encoding` is the transfer encoding that the body has from now on, None for the one that
    the header tells; `body` the octets that get it, whose charset is told if nothing else does.
    `hint` is the charset that 8-bit text is likely to be in when it is not UTF-8. Raises
    NeedsSmtputf8, ConversionRefused.
    """
    header = part.header_bytes
    told_now = parse_parameters(part.header("content-transfer-encoding") or b"")[0]
    changes_encoding = bool(body) or (encoding is not None and told_now in ("8bit", "binary"))
    if not changes_encoding and header.isascii() and b"\0" not in header:
        return header
    if len(header) > HEADER_BYTES_MAX:
        raise ConversionRefused("The header is too long to be converted")
    out: list[bytes] = []
    told = False
    for name, line in _lines(header):
        if changes_encoding and name == "content-transfer-encoding":
            if not told:
                out.append(_encoding_field(encoding or ""))
            told = True
        elif line.isascii() and b"\0" not in line:
            out.append(line)
        else:
            out.append(_field(name, line, hint))
    blank = out.pop() if out and out[-1] in (b"\r\n", b"\n") else b"\r\n" if body else b""
    if body and not told:
        if is_message and part.header("mime-version") is None:
            out.append(plain("MIME-Version", "1.0"))
        if part.header("content-type") is None:
            out.append(plain("Content-Type", f"text/plain; charset={_charset(body)}"))
        out.append(_encoding_field(encoding or ""))
    return b"".join(out) + blank


def _encoding_field(encoding: str) -> bytes:
    return plain("Content-Transfer-Encoding", encoding)


def _charset(body: bytes) -> str:
    try:
        body.decode()
    except UnicodeDecodeError:
        return "unknown-8bit"  # RFC 1428 §3
    return "utf-8"


def _lines(header: bytes) -> Iterator[tuple[str | None, bytes]]:
    """Yield the fields, each with its name in lower case, and other lines with None."""
    pos = 0
    while pos < len(header):
        match = _LINE.match(header, pos)
        assert match is not None
        yield match[1].decode().lower() if match[1] else None, match[0]
        pos = match.end()


def _field(name: str | None, line: bytes, hint: str | None) -> bytes:
    """Return one field that is not ASCII as one that is."""
    if name is None:
        raise ConversionRefused("A line of the header is no field and has 8-bit octets")
    if b"\0" in line and name.startswith("content-"):
        raise ConversionRefused("A MIME field has a NUL, without which it would say something else")
    shown, _, value = line.partition(b":")
    as_written = shown.rstrip().decode()
    value = value.replace(b"\0", b"").rstrip(b"\r\n")
    if value.isascii():
        return shown + b":" + value + b"\r\n"
    if name in _RIGID:
        raise NeedsSmtputf8(f"The field {as_written[:78]} has characters beyond ASCII")
    if name in _PARAMETERS:
        return _parameters_field(as_written, value, hint)
    if len(value) > VALUE_BYTES_MAX:
        raise ConversionRefused("A field of the header is too long to be converted")
    if name in _ADDRESSES:
        return _addresses_field(as_written, value, hint)
    return unstructured(as_written, as_text(value, hint))


def _addresses_field(name: str, value: bytes, hint: str | None) -> bytes:
    groups = as_grouped_addresses(value, hint)
    if sum(len(group.addresses) for group in groups) >= ADDRESSES_MAX:
        raise ConversionRefused("A field has too many addresses to be converted")
    found = [(group.name, tuple(map(_ascii_address, group.addresses))) for group in groups]
    if all(group is None for group, _ in found):
        return address_list(name, (address for _, addresses in found for address in addresses))
    return grouped_address_list(name, found)


def _ascii_address(address: EmailAddress) -> EmailAddress:
    email = address.email
    try:
        parsed = parse_address(email)
    except InvalidAddress:
        if _SAFE_EMAIL.fullmatch(email) is not None:
            return address
        raise ConversionRefused("An address of the header is not valid") from None
    if parsed.needs_smtputf8:
        raise NeedsSmtputf8("An address of the header has characters beyond ASCII")
    return EmailAddress(address.name, email if email.isascii() else str(parsed))


def _parameters_field(name: str, value: bytes, hint: str | None) -> bytes:
    """Return Content-Type or Content-Disposition with 8-bit parameters in the extended form."""
    main, parameters = parse_parameters(value)
    boundary = parameters.get("boundary", b"").decode("latin-1")
    exact = all(text.isascii() and text.isprintable() for text in (main, boundary))
    if len(value) > PARAMETERS_BYTES_MAX or not exact:
        raise ConversionRefused(f"The field {name} cannot be converted")
    groups: dict[str, list[str]] = {}
    for key in parameters:
        groups.setdefault(key.partition("*")[0], []).append(key)
    out = [f"{name}: {main}"]
    for base, keys in groups.items():
        if all(parameters[key].isascii() for key in keys):
            out += (f"{key}={_quoted(parameters[key].decode())}" for key in keys if key.isascii())
        elif _TOKEN.fullmatch(base) is not None:
            out += _extended(base, decode_parameter(parameters, base, hint) or "")
    return (";\r\n ".join(out) + "\r\n").encode()


def _extended(name: str, text: str) -> list[str]:
    """Return a parameter in the extended form, in as many pieces as it takes (RFC 2231 §4.1)."""
    encoded = f"utf-8''{quote(text, safe='')}"
    if len(encoded) <= EXTENDED_CHARS_MAX:
        return [f"{name}*={encoded}"]
    pieces = re.findall(rf".{{1,{EXTENDED_CHARS_MAX - 2}}}(?:(?<=%)..|(?<=%.).)?", encoded)
    return [f"{name}*{i}*={piece}" for i, piece in enumerate(pieces)]


def _quoted(value: str) -> str:
    if _TOKEN.fullmatch(value) is not None:
        return value
    shown = "".join(c if c.isprintable() else " " for c in value)
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'
