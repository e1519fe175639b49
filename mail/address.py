"""Address: the mailbox addresses of SMTP (RFC 5321 §4.1.2) and their UTF-8 form (RFC 6531).

Two addresses are one mailbox when their keys are equal. RFC 5321 §2.4 leaves the local part
to the host that owns it; this one ignores case, and compares in NFC, as RFC 6532 §3.1 asks.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass

from mail.errors import InvalidAddress

LOCAL_BYTES_MAX = 64  # RFC 5321 §4.5.3.1.1.
DOMAIN_BYTES_MAX = 255  # RFC 5321 §4.5.3.1.2.
ADDRESS_BYTES_MAX = 254  # RFC 5321 §4.5.3.1.3: a path of 256 with its angle brackets.
LABEL_BYTES_MAX = 63  # RFC 1035 §2.3.4.
PATH_CHARS_MAX = 2048  # Source routes included; nobody sends them.

_ATOM_ASCII = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_DOT_STRING_ASCII = re.compile(rf"{_ATOM_ASCII}+(?:\.{_ATOM_ASCII}+)*")
_ATOM = r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]|[^\x00-\x7f])"
_DOT_STRING = re.compile(rf"{_ATOM}+(?:\.{_ATOM}+)*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
# RFC 5321 §4.1.2 has no underscore; the DNS does, and hosts with one send mail.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
_SOURCE_ROUTE = re.compile(r"@[^@,:<>\s]+(?:,@[^@,:<>\s]+)*:")
# UTS 46: what people type for a full stop between labels.
_FULL_STOPS = str.maketrans("\u3002\uff0e\uff61", "...")


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox address.

    `local` is as written, without the quotes of a quoted string; `domain` is in lower case,
    every label in its ASCII form (RFC 5890 §2.3.2.1), or an address literal. The domain is
    empty only for `<Postmaster>` (RFC 5321 §4.1.1.3).
    """

    local: str
    domain: str

    def __str__(self) -> str:
        local = self.local
        if _DOT_STRING.fullmatch(local) is None:
            local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{local}@{self.domain}" if self.domain else local

    @property
    def key(self) -> str:
        """Return what equal addresses have in common; the detail after a plus stays."""
        return f"{_fold(self.local)}@{self.domain}"

    @property
    def base_key(self) -> str:
        """Return the key without the detail: the key of the mailbox that gets the mail."""
        return f"{_fold(self._split()[0])}@{self.domain}"

    @property
    def detail(self) -> str | None:
        """Return what follows the first plus, None without one (RFC 5233 §4)."""
        return self._split()[1]

    @property
    def needs_smtputf8(self) -> bool:
        """Say whether the address can only travel with SMTPUTF8 (RFC 6531 §3.3)."""
        return not self.local.isascii()

    def _split(self) -> tuple[str, str | None]:
        plus = self.local.find("+", 1)  # A leading plus begins no detail.
        return (self.local, None) if plus < 0 else (self.local[:plus], self.local[plus + 1 :])


def _fold(local: str) -> str:
    if local.isascii():
        return local.lower()
    folded = unicodedata.normalize("NFC", local).casefold()
    return unicodedata.normalize("NFC", folded)


def parse_address(text: str, *, allow_utf8: bool = True) -> Address:
    """Return the address in `text`, which is nothing but `Local-part "@" Domain`.

    Raises InvalidAddress; characters beyond ASCII are invalid unless `allow_utf8`.
    """
    if len(text) > PATH_CHARS_MAX:
        raise InvalidAddress("The address is too long")
    if not allow_utf8 and not text.isascii():
        raise InvalidAddress("The address needs SMTPUTF8")  # RFC 6531 §3.3
    local, domain_text = _split_at(text)
    domain = parse_domain(domain_text)
    if len(local.encode()) + 1 + len(domain) > ADDRESS_BYTES_MAX:
        raise InvalidAddress("The address is too long")
    return Address(local, domain)


def parse_path(text: str, *, allow_utf8: bool = True) -> Address | None:
    """Return the address of a path in angle brackets, None for the null path `<>`.

    A source route is ignored (RFC 5321 §4.1.1.3), `<Postmaster>` needs no domain. Raises
    InvalidAddress.
    """
    if not (text.startswith("<") and text.endswith(">")):
        raise InvalidAddress("The address must be in angle brackets")
    inner = text[1:-1]
    if not inner:
        return None
    if inner.lower() == "postmaster":
        return Address(inner, "")
    if inner.startswith("@"):
        route = _SOURCE_ROUTE.match(inner[:PATH_CHARS_MAX])
        if route is None:
            raise InvalidAddress("The source route is not valid")
        inner = inner[route.end() :]
    return parse_address(inner, allow_utf8=allow_utf8)


def parse_domain(text: str) -> str:
    """Return a domain or an address literal in its one form. Raises InvalidAddress.

    U-labels become A-labels; `[IPv6:…]` is compressed (RFC 5952).
    """
    if text.startswith("["):
        return _parse_literal(text)
    if not text or len(text) > DOMAIN_BYTES_MAX:
        raise InvalidAddress("The domain is empty or too long")
    if text.isascii():
        domain = text.lower()
    else:
        domain = ".".join(_to_a_label(label) for label in text.translate(_FULL_STOPS).split("."))
    if len(domain) > DOMAIN_BYTES_MAX:
        raise InvalidAddress("The domain is too long")
    for label in domain.split("."):
        if len(label) > LABEL_BYTES_MAX or _LABEL.fullmatch(label) is None:
            raise InvalidAddress("The domain is not valid")
    return domain


def display_domain(domain: str) -> str:
    """Return a domain with its A-labels as people read them; what cannot be read stays."""
    return ".".join(_to_u_label(label) for label in domain.split("."))


def _split_at(text: str) -> tuple[str, str]:
    """Return the local part, unquoted and checked, and the text of the domain."""
    if text.startswith('"'):
        quoted = _QUOTED.match(text)
        if quoted is None or not text.startswith("@", quoted.end()):
            raise InvalidAddress("The quoted local part is not valid")
        local, domain = _QUOTED_PAIR.sub(r"\1", quoted[1]), text[quoted.end() + 1 :]
    else:
        local, at, domain = text.partition("@")
        if not at:
            raise InvalidAddress("The address has no domain")
        if _DOT_STRING.fullmatch(local) is None:
            raise InvalidAddress("The local part is not valid")
    if not local or len(local.encode("utf-8", "replace")) > LOCAL_BYTES_MAX:
        raise InvalidAddress("The local part is empty or too long")
    if not all(" " <= c <= "~" if c < "\x80" else _is_text(c) for c in local):
        raise InvalidAddress("The local part has characters that are not allowed")
    return local, domain


def _is_text(character: str) -> bool:
    """Say whether a character beyond ASCII may stand in an address: no control, no space."""
    return unicodedata.category(character) not in ("Cc", "Cs", "Cn", "Zs", "Zl", "Zp")


def _parse_literal(text: str) -> str:
    inner = text[1:-1]
    if not text.endswith("]"):
        raise InvalidAddress("The address literal is not closed")
    try:
        if inner[:5].lower() == "ipv6:":
            return f"[IPv6:{ipaddress.IPv6Address(inner[5:]).compressed}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError:
        raise InvalidAddress("The address literal is not valid") from None


def _to_a_label(label: str) -> str:
    """Return the A-label of a label (RFC 5891 §4.4), lower-cased as UTS 46 maps.

    Sharp s and final sigma stay letters of their own, as IDNA 2008 has it and the codec of
    the standard library, IDNA 2003, has not: mail must not go to another domain.
    """
    mapped = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).lower())
    if mapped.isascii():
        return mapped
    categories = [unicodedata.category(character) for character in mapped]
    allowed = all(
        category[0] in "LMN" or character in "-\u00b7\u30fb\u200c\u200d"
        for character, category in zip(mapped, categories, strict=True)
    )
    if not allowed or categories[0][0] == "M" or mapped.startswith("-") or mapped.endswith("-"):
        raise InvalidAddress("The domain is not valid")
    return "xn--" + mapped.encode("punycode").decode("ascii")


def _to_u_label(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        text = label[4:].encode("ascii").decode("punycode")
        # Only what leads back is shown: others could pass for a domain that they are not.
        return text if _to_a_label(text) == label else label
    except (UnicodeError, InvalidAddress):
        return label
