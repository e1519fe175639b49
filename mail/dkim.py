"""Dkim: signatures by which a domain answers for a message (RFC 6376, RFC 8463).

Octets in, the DKIM-Signature fields to be put in front of them out. The octets are those that
will be sent: lines end with CRLF, transfer encodings are final, Bcc is gone. A CR or LF on its
own is a character like any other here; on the way it would be turned into a line's end, so
whoever sends must have done that before (RFC 6376 §5.3).

What is signed. `h=` names a field once for each of its occurrences, the lowest first, and once
more where nobody may add another on the way without breaking the signature (RFC 6376 §5.4.2,
§8.15: readers show the first From, verifiers look at the last):

    always one more    From Reply-To To Cc Subject Date Message-ID
                       MIME-Version Content-Type Content-Transfer-Encoding
        They say what a reader sees and who gets the answer, also when one is added to a
        message that had none: a Reply-To leads answers away, a Content-Type hides the text.
    one more if there  Sender In-Reply-To References Content-Disposition Content-ID
                       Content-Description Content-Language Auto-Submitted Autocrypt
        A list sets Sender without touching anything else, and its copy still verifies.
    as often as there  Resent-* List-*
        Resenders and lists put their own in front; those of the author stay as signed. Of
        these, List-Unsubscribe and -Post must be signed (RFC 8058 §4).
    never              Received, Return-Path, Authentication-Results and other trace, which
        changes on the way; Bcc, Comments, Keywords, X- fields, which nothing relies on
        (RFC 6376 §5.4.1).

`l=` is never used: text could be added behind what it counts (RFC 6376 §8.2). The body is
relaxed as well as the header: the white space that relays change says nothing.

Any octets get a signature, in a time linear in their number; whether a message without a From
or with lines that are no fields verifies is up to those who read it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from mail.dkim_keys import PrivateKey, algorithm_of

LINE_BYTES_MAX = 78  # RFC 5322 §2.1.1, the CRLF not counted
# Occurrences of a field that are signed, from below. More of one are in no honest message, and
# would only make `h=` as long as the header.
SAME_NAME_MAX = 10
# Passes that halve runs of white space before a pattern takes the rest: they are several times
# faster on the short runs of most mail, but only the pattern is done in one pass, however long.
HALVINGS = 3

ALWAYS_ONE_MORE = (
    b"From", b"Reply-To", b"To", b"Cc", b"Subject", b"Date", b"Message-ID",
    b"MIME-Version", b"Content-Type", b"Content-Transfer-Encoding",
)  # fmt: skip
ONE_MORE_IF_THERE = (
    b"Sender", b"In-Reply-To", b"References", b"Content-Disposition", b"Content-ID",
    b"Content-Description", b"Content-Language", b"Auto-Submitted", b"Autocrypt",
)  # fmt: skip
IF_THERE = (
    b"Resent-Date", b"Resent-From", b"Resent-Sender", b"Resent-To", b"Resent-Cc",
    b"Resent-Message-ID",
    b"List-Id", b"List-Help", b"List-Unsubscribe", b"List-Unsubscribe-Post",
    b"List-Subscribe", b"List-Post", b"List-Owner", b"List-Archive",
)  # fmt: skip

_SIGNED = (*ALWAYS_ONE_MORE, *ONE_MORE_IF_THERE, *IF_THERE)
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_SPACES = re.compile(rb"  +")
# For octets that were turned round: a search from the front for "at the end" would look again
# at every run of line ends in the middle.
_EMPTY_LINES_REVERSED = re.compile(rb"(?:\n\r)*+")
# RFC 6376 §3.1, §3.5: what may stand in `d=` and `s=`.
_DOMAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")


class Canonical(StrEnum):
    """The two forms in which octets are compared (RFC 6376 §3.4)."""

    SIMPLE = "simple"
    RELAXED = "relaxed"


class Field(NamedTuple):
    """One header field: its name as written, and all its octets but the CRLF at its end."""

    name: bytes
    octets: bytes


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key and where its public half is: `<selector>._domainkey.<domain>`, in A-labels."""

    domain: str
    selector: str
    private: PrivateKey

    def __post_init__(self) -> None:
        assert _DOMAIN.fullmatch(self.domain)
        assert _DOMAIN.fullmatch(self.selector)


def sign(
    octets: bytes,
    keys: Sequence[SigningKey],
    *,
    now_ms: int,
    lifetime_s: int | None = None,
    header: Canonical = Canonical.RELAXED,
    body: Canonical = Canonical.RELAXED,
) -> bytes:
    """Return a DKIM-Signature field for each key, in their order, to stand before the message.

    `lifetime_s` becomes `x=`: after it the signature is no longer good. Longer than a message
    may be on its way, or None.
    """
    if not keys:
        return b""
    header_octets, body_octets = split(octets)
    signed = _select(fields(header_octets, _SIGNED))
    text = b"".join(canonical_field(field, header) + b"\r\n" for _, field in signed if field)
    digest = hashlib.sha256(canonical_body(body_octets, body)).digest()
    signature = _Signature(
        names=[name for name, _ in signed],
        body_digest=base64.b64encode(digest),
        canonical=f"{header}/{body}".encode(),
        signed_s=now_ms // 1000,
        lifetime_s=lifetime_s,
    )
    written = []
    for key in keys:
        unsigned = signature.without_value(key)
        covered = text + canonical_field(Field(b"DKIM-Signature", unsigned), header)
        value = base64.b64encode(_value(key.private, covered))
        column = len(unsigned) - unsigned.rindex(b"\n") - 1
        written.append(unsigned + _broken(value, column) + b"\r\n")
    return b"".join(written)


def split(octets: bytes) -> tuple[bytes, bytes]:
    """Return header and body; neither has the empty line between them."""
    if octets.startswith(b"\r\n"):
        return b"", octets[2:]
    header, _, body = octets.partition(b"\r\n\r\n")
    return header, body


def fields(
    header: bytes, names: Sequence[bytes], *, same_name_max: int = SAME_NAME_MAX
) -> dict[bytes, list[Field]]:
    """Return the fields of these names, by name in lower case, the lowest of each first.

    Of a name there are `same_name_max` at most. Lines that belong to no field are passed over.
    """
    if not names:
        return {}
    either = b"|".join(re.escape(name) for name in names)
    # The module remembers the patterns that it compiled.
    start = re.compile(rb"(?i)(?:\A|\r\n)(" + either + rb")[ \t]*:")
    lowest: dict[bytes, deque[re.Match[bytes]]] = {name.lower(): deque() for name in names}
    for match in start.finditer(header):
        same = lowest[match[1].lower()]
        same.append(match)
        if len(same) > same_name_max:
            same.popleft()
    return {name: [_field(header, match) for match in reversed(lowest[name])] for name in lowest}


def _field(header: bytes, start: re.Match[bytes]) -> Field:
    end = _FIELD_END.search(header, start.end())
    octets = header[start.start(1) : len(header) if end is None else end.start()]
    return Field(start[1], octets)


def canonical_field(field: Field, how: Canonical) -> bytes:
    """Return a field as it is digested, without the CRLF at its end (RFC 6376 §3.4.1, §3.4.2)."""
    if how is Canonical.SIMPLE:
        return field.octets
    value = field.octets[field.octets.index(b":") + 1 :].replace(b"\r\n", b"")
    return field.name.lower() + b":" + _one_space(value).strip(b" ")


def canonical_body(body: bytes, how: Canonical) -> bytes:
    """Return a body as it is digested (RFC 6376 §3.4.3, §3.4.4).

    A last line without its end gets one, as it will when the message is sent.
    """
    if not body.endswith(b"\r\n"):
        body += b"\r\n"
    if how is Canonical.RELAXED:
        body = _one_space(body).replace(b" \r\n", b"\r\n")
    body = _without_empty_lines(body)
    return body + b"\r\n" if body or how is Canonical.SIMPLE else b""


def _one_space(octets: bytes) -> bytes:
    octets = octets.replace(b"\t", b" ")
    for _ in range(HALVINGS):
        if b"  " not in octets:
            return octets
        octets = octets.replace(b"  ", b" ")
    return _SPACES.sub(b" ", octets)


def _without_empty_lines(body: bytes) -> bytes:
    """Return a body without all the CRLF at its end."""
    tail = body[len(body.rstrip(b"\r\n")) :]
    match = _EMPTY_LINES_REVERSED.match(tail[::-1])
    assert match is not None  # It matches nothing, too.
    return body[: len(body) - match.end()]


def _select(found: Mapping[bytes, Sequence[Field]]) -> list[tuple[bytes, Field | None]]:
    """Return what `h=` names, in its order, with the fields that it means, None for no field.

    RFC 6376 §5.4.2: of several, the lowest is meant first.
    """
    selected: list[tuple[bytes, Field | None]] = []
    for name in _SIGNED:
        same = found[name.lower()]
        selected += [(name, field) for field in same]
        more = name in ALWAYS_ONE_MORE or (same and name in ONE_MORE_IF_THERE)
        if more and len(same) < SAME_NAME_MAX:
            selected.append((name, None))
    return selected


def _value(key: PrivateKey, covered: bytes) -> bytes:
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(hashlib.sha256(covered).digest())  # RFC 8463 §3
    return key.sign(covered, PKCS1v15(), SHA256())


def _broken(value: bytes, column: int) -> bytes:
    """Return base64 in lines, the first of which has `column` octets before it."""
    first = max(LINE_BYTES_MAX - column, 0)
    rest = value[first:]
    size = LINE_BYTES_MAX - 1
    lines = [value[:first], *(rest[n : n + size] for n in range(0, len(rest), size))]
    return b"\r\n ".join(lines)


@dataclass(frozen=True, slots=True)
class _Signature:
    """What the signatures of one message have in common."""

    names: Sequence[bytes]
    body_digest: bytes
    canonical: bytes
    signed_s: int
    lifetime_s: int | None

    def without_value(self, key: SigningKey) -> bytes:
        """Return the field with an empty `b=` at its end: what is signed (RFC 6376 §3.7)."""
        tags = [
            b"v=1;",
            b"a=" + algorithm_of(key.private).signature.encode() + b";",
            b"c=" + self.canonical + b";",
            b"d=" + key.domain.encode() + b";",
            b"s=" + key.selector.encode() + b";",
            b"t=%d;" % self.signed_s,
        ]
        if self.lifetime_s is not None:
            tags.append(b"x=%d;" % (self.signed_s + self.lifetime_s))
        # White space may stand around the colons of `h=`; it does where lines are broken.
        *names, last = self.names
        pieces = [b" " + tag for tag in (*tags, b"h=")]
        pieces += [name + b":" for name in names]
        pieces += [last + b";", b" bh=" + self.body_digest + b";", b" b="]
        return _folded(b"DKIM-Signature:", pieces)


def _folded(start: bytes, pieces: Sequence[bytes]) -> bytes:
    """Return the pieces on lines of LINE_BYTES_MAX, broken between them where there is no room.

    A piece that begins with a space gives it to the fold.
    """
    lines = [start]
    for piece in pieces:
        if len(lines[-1]) + len(piece) <= LINE_BYTES_MAX:
            lines[-1] += piece
        else:
            lines.append(piece if piece.startswith(b" ") else b" " + piece)
    return b"\r\n".join(lines)
