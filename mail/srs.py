"""SRS: return addresses of forwarded mail, rewritten so that SPF holds and bounces come back.

Pure. The Sender Rewriting Scheme as libsrs2 and its heirs write it, so that addresses of theirs
and ours nest:

    SRS0=hash=day=host=user@here               the first forward of user@host
    SRS1=hash=first==hash=day=host=user@here   a forward of an SRS0 address of the host `first`
    SRS1=hash=first==…@here                    a forward of an SRS1 address: `first` stays

The hash is the begin of an HMAC-SHA1 in base64 over the other parts in lower case; hosts on the
way may change the case of a local part, so case is ignored. The day is Unix time in days, modulo
1024, as two letters of base32. Of an SRS1 address only the hash is checked here: its day is
the affair of the host that wrote it.

Keys        the first one signs, all of them verify; a new key goes to the front.
On failure  SrsRefused: an address that nobody here wrote, or too long ago. It must get no bounce
            of its own, since only a null reverse path is ever sent to it.
"""

from __future__ import annotations

import binascii
import hmac
import re
from collections.abc import Iterator, Sequence

from mail.address import ADDRESS_BYTES_MAX, Address, parse_domain
from mail.errors import InvalidAddress, SrsRefused, SrsTooLong

VALID_DAYS = 21  # As libsrs2; peers give a bounce up to 5 days, and theirs as many again.
SKEW_DAYS = 1  # The clock of the node that signed may have been past midnight before ours.
HASH_CHARS = 4  # As libsrs2: one of 2 million forgeries passes, to an address of one's choice.
KEYS_MAX = 16  # A key is replaced now and then, and kept for the time that bounces take.
KEY_BYTES_MIN = 16

_DAY_MS = 86_400_000
_DAYS = 1024
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_HASH = r"([A-Za-z0-9+/]{4})"
_SRS = re.compile(r"SRS[01][=+-]", re.IGNORECASE)
_SRS0 = re.compile(rf"SRS0[=+-]{_HASH}=([A-Za-z2-7]{{2}})=([^=]+)=(.+)", re.IGNORECASE | re.DOTALL)
_SRS1 = re.compile(rf"SRS1[=+-]{_HASH}=([^=]+)=([=+-].+)", re.IGNORECASE | re.DOTALL)


def is_srs(address: Address) -> bool:
    """Say whether an address has the form of a rewritten one.

    Ask it before the detail after a plus is looked for: the hash may have one.
    """
    return _SRS.match(address.local) is not None


def encode(sender: Address, domain: str, keys: Sequence[bytes], *, now_ms: int) -> Address:
    """Return the return address at `domain`, one of ours, for a forward of the sender's mail.

    `now_ms` is Unix time. The local part may be longer than the 64 octets that
    RFC 5321 §4.5.3.1.1 makes everyone accept, since most accept more and the sender's is what
    it is. Raises SrsTooLong when the path would be longer than RFC 5321 §4.5.3.1.3 allows.
    """
    _check(keys)
    assert sender.domain
    if (again := _SRS1.fullmatch(sender.local)) is not None:
        first, rest = again[2], again[3]
        local = f"SRS1={_hash(keys[0], first, rest)}={first}={rest}"
    elif _SRS0.fullmatch(sender.local) is not None:
        first, rest = sender.domain, sender.local[4:]
        local = f"SRS1={_hash(keys[0], first, rest)}={first}={rest}"
    else:
        day = _day(now_ms)
        signed = _hash(keys[0], day, sender.domain, sender.local)
        local = f"SRS0={signed}={day}={sender.domain}={sender.local}"
    rewritten = Address(local, parse_domain(domain))
    if len(str(rewritten).encode()) > ADDRESS_BYTES_MAX:
        raise SrsTooLong
    return rewritten


def decode(recipient: Address, keys: Sequence[bytes], *, now_ms: int) -> Address:
    """Return where mail for a rewritten address goes: the sender, or the first forwarder.

    Raises SrsRefused: not in the form, not signed by one of the keys, or older than
    VALID_DAYS. Whether the domain is ours is the caller's question.
    """
    _check(keys)
    local = recipient.local
    if len(local.encode()) > ADDRESS_BYTES_MAX:
        raise SrsRefused
    if (srs0 := _SRS0.fullmatch(local)) is not None:
        signed, day, domain, user = srs0.groups()
        _verify(signed, keys, day, domain, user)
        age_days = (_day_number(now_ms) + SKEW_DAYS - _day_value(day)) % _DAYS - SKEW_DAYS
        if age_days > VALID_DAYS:
            raise SrsRefused("The rewritten return address is too old")
        return _address(user, domain)
    if (srs1 := _SRS1.fullmatch(local)) is not None:
        signed, first, rest = srs1.groups()
        _verify(signed, keys, first, rest)
        return _address(f"SRS0{rest}", first)
    raise SrsRefused


def _check(keys: Sequence[bytes]) -> None:
    assert 1 <= len(keys) <= KEYS_MAX
    assert all(len(key) >= KEY_BYTES_MIN for key in keys)


def _address(local: str, domain: str) -> Address:
    try:  # The local part was somebody's once; its length is not for us to judge.
        return Address(local, parse_domain(domain))
    except InvalidAddress:
        raise SrsRefused from None


def _hash(key: bytes, *parts: str) -> str:
    signed = hmac.digest(key, b"".join(part.encode().lower() for part in parts), "sha1")
    return binascii.b2a_base64(signed, newline=False)[:HASH_CHARS].decode()


def _verify(signed: str, keys: Sequence[bytes], *parts: str) -> None:
    given = signed.lower().encode()
    matches = [hmac.compare_digest(given, expected) for expected in _expected(keys, parts)]
    if not any(matches):
        raise SrsRefused


def _expected(keys: Sequence[bytes], parts: tuple[str, ...]) -> Iterator[bytes]:
    return (_hash(key, *parts).lower().encode() for key in keys)


def _day_number(now_ms: int) -> int:
    return now_ms // _DAY_MS % _DAYS


def _day(now_ms: int) -> str:
    number = _day_number(now_ms)
    return _BASE32[number >> 5] + _BASE32[number & 31]


def _day_value(day: str) -> int:
    high, low = (_BASE32.index(letter) for letter in day.upper())
    return high << 5 | low
