"""Tokens: the secrets that we make ourselves, as text and as what is kept of them.

All are random, so a plain SHA-256 keeps them (nobody guesses 125 bits; a slow hash helps only
against guessing). The directory sees digests alone. The texts:

access token    "hla_" and base64url of account u64, session u64, secret 32B
refresh token   "hlr_" and base64url of account u64, session u64, family 16B, secret 32B
app password    five groups of five letters and digits: 125 bits, to be typed once
invitation      the same form

The family is the same in all refresh tokens of a session. So a token that is not the newest but
of the right family was given out and used up: whoever brings it again has stolen it, or was
stolen from, and the session ends (RFC 9700 §4.14.2). This takes no list of used tokens.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from actors.commands import MailboxId

ACCESS_PREFIX, REFRESH_PREFIX = "hla_", "hlr_"
SECRET_BYTES, FAMILY_BYTES = 32, 16
TOKEN_LENGTH_MAX = 128
CODE_BYTES = 16
_CODE_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # 32 that nobody confuses
_CODE_LENGTH, _CODE_GROUP = 25, 5
_CODE = re.compile(rf"[{_CODE_ALPHABET}]{{{_CODE_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class AccessSecret:
    """What an access token says."""

    mailbox: MailboxId
    session: int
    secret: bytes

    @property
    def text(self) -> str:
        """Return the token."""
        return ACCESS_PREFIX + _encode(_ids(self.mailbox, self.session) + self.secret)

    def __repr__(self) -> str:
        return f"AccessSecret(mailbox={self.mailbox})"


@dataclass(frozen=True, slots=True)
class RefreshSecret:
    """What a refresh token says."""

    mailbox: MailboxId
    session: int
    family: bytes
    secret: bytes

    @property
    def text(self) -> str:
        """Return the token."""
        ids = _ids(self.mailbox, self.session)
        return REFRESH_PREFIX + _encode(ids + self.family + self.secret)

    def __repr__(self) -> str:
        return f"RefreshSecret(mailbox={self.mailbox})"


def digest_of(secret: bytes) -> bytes:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret).digest()


def parse_access_token(text: str) -> AccessSecret | None:
    """Return what an access token says, None when it is none of ours."""
    octets = _decode(text, ACCESS_PREFIX, 16 + SECRET_BYTES)
    if octets is None:
        return None
    return AccessSecret(*_parsed_ids(octets), octets[16:])


def parse_refresh_token(text: str) -> RefreshSecret | None:
    """Return what a refresh token says, None when it is none of ours."""
    octets = _decode(text, REFRESH_PREFIX, 16 + FAMILY_BYTES + SECRET_BYTES)
    if octets is None:
        return None
    family, secret = octets[16 : 16 + FAMILY_BYTES], octets[16 + FAMILY_BYTES :]
    return RefreshSecret(*_parsed_ids(octets), family, secret)


def make_code(random: bytes) -> str:
    """Return the app password or invitation code made of CODE_BYTES random octets."""
    assert len(random) == CODE_BYTES
    number = int.from_bytes(random, "big")
    letters = [_CODE_ALPHABET[number >> 5 * place & 31] for place in range(_CODE_LENGTH)]
    groups = range(0, _CODE_LENGTH, _CODE_GROUP)
    return "-".join("".join(letters[start : start + _CODE_GROUP]) for start in groups)


def code_digest(text: str) -> bytes | None:
    """Return what is kept of an app password or code, None when it cannot be one.

    Case, spaces and hyphens do not count, as people type it.
    """
    if len(text) > 2 * _CODE_LENGTH:
        return None
    letters = text.lower().replace("-", "").replace(" ", "")
    return digest_of(letters.encode()) if _CODE.fullmatch(letters) else None


def _ids(mailbox: int, session: int) -> bytes:
    return mailbox.to_bytes(8, "big") + session.to_bytes(8, "big")


def _parsed_ids(octets: bytes) -> tuple[MailboxId, int]:
    return MailboxId(int.from_bytes(octets[:8], "big")), int.from_bytes(octets[8:16], "big")


def _encode(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _decode(text: str, prefix: str, length: int) -> bytes | None:
    if not text.startswith(prefix) or len(text) > TOKEN_LENGTH_MAX or not text.isascii():
        return None
    body = text[len(prefix) :]
    try:
        octets = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return octets if len(octets) == length else None
