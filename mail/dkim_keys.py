"""DkimKeys: the keys that sign a domain's mail, how they are published, when they change.

A key is made, its public half is published as a TXT record below `_domainkey`, it signs for
some months, and its record stays for as long as mail signed with it may still be on its way
(RFC 6376 §3.1, §3.6). Two algorithms, side by side: RSA-2048, which everybody verifies, and
Ed25519 (RFC 8463), whose record fits into one string of the DNS.

Pure, except that `make` draws on the operating system's randomness, as `cryptography` does.

Errors      InvalidKey: octets that are no private key of ours. A published record that cannot
            be read is None, never an error: others write it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

PrivateKey = RSAPrivateKey | Ed25519PrivateKey
PublicKey = RSAPublicKey | Ed25519PublicKey

RSA_BITS = 2048  # RFC 8301 §3.2: signers should use as many, and all verifiers take them.
RSA_BITS_MIN = 1024  # RFC 8301 §3.2: verifiers must not take fewer.
RSA_BITS_MAX = 8192  # More would only keep the verifier busy.
STRING_BYTES_MAX = 255  # RFC 1035 §3.3: a character-string's length is one octet.
RECORD_BYTES_MAX = 8 << 10  # RSA-8192 has 1.4 KB; more is no key.

DAY_MS = 24 * 3600 * 1000
# Half a year: what a thief of a key has of it ends by itself, and few operators would type
# records into the DNS more often.
SIGN_MS = 180 * DAY_MS
# From when a key is made until it signs, seen in the DNS or not: resolvers that asked before it
# was there remember the absence, by RFC 2308 §5 for no more than a day.
PUBLISH_MS = 2 * DAY_MS
# From a key's last signature until its record may go: five days in our queue, five in that of a
# relay behind us, and some for mail that is fetched and verified late.
RETIRE_MS = 14 * DAY_MS


class InvalidKey(ValueError):
    """The octets are no private key of RSA-2048 or more, or of Ed25519, in PKCS#8 PEM."""


class Algorithm(StrEnum):
    """The type of a key, as in `k=` (RFC 6376 §3.6.1, RFC 8463 §4)."""

    RSA = "rsa"
    ED25519 = "ed25519"

    @property
    def signature(self) -> str:
        """Return the name of the signing algorithm, as in `a=` (RFC 6376 §3.5)."""
        return f"{self}-sha256"


class State(StrEnum):
    """Where a key is in its life."""

    PENDING = "pending"  # made, to be published; does not sign yet
    ACTIVE = "active"  # signs
    RETIRED = "retired"  # signs no more, what it has signed is still verified


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is known of a key, its private half excepted."""

    selector: str
    algorithm: Algorithm
    public_text: str  # of the TXT record at `<selector>._domainkey.<domain>`
    created_at_ms: int
    state: State = State.PENDING
    state_since_ms: int = 0  # when it became what it is; for PENDING, when it was made


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """A key record of the DNS, as a verifier sees it (RFC 6376 §3.6.1).

    `key` is None when the record revokes its key. `is_usable` says whether mail is verified by
    it at all: not when it is for other services or other digests, nor when it is revoked.
    """

    algorithm: Algorithm
    key: PublicKey | None
    is_usable: bool
    is_testing: bool  # `t=y`: verifiers treat the mail as if it were not signed
    is_strict: bool  # `t=s`: the domain of `i=` must be that of `d=`


def make(algorithm: Algorithm) -> bytes:
    """Make a private key; returns its PKCS#8 PEM, not encrypted. RSA takes tenths of a second."""
    key: PrivateKey
    if algorithm is Algorithm.RSA:
        key = generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    else:
        key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load(pem: bytes) -> PrivateKey:
    """Return the key that `make`, or another program, wrote as PEM. Raises InvalidKey.

    An RSA key is checked, which takes milliseconds: load once, sign often.
    """
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidKey("not a private key that can be read") from error
    if isinstance(key, RSAPrivateKey):
        if not RSA_BITS <= key.key_size <= RSA_BITS_MAX:
            raise InvalidKey(f"an RSA key of {key.key_size} bits")
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise InvalidKey("neither RSA nor Ed25519")


def algorithm_of(key: PrivateKey | PublicKey) -> Algorithm:
    """Return the algorithm of a key."""
    return Algorithm.RSA if isinstance(key, RSAPrivateKey | RSAPublicKey) else Algorithm.ED25519


def public_text(key: PrivateKey) -> str:
    """Return the text of the TXT record that publishes a key's public half.

    The octets are a SubjectPublicKeyInfo for RSA, as everybody has it, and the bare 32 octets
    for Ed25519 (RFC 8463 §4).
    """
    octets = _public_octets(key.public_key())
    return f"v=DKIM1; k={algorithm_of(key)}; p={base64.b64encode(octets).decode()}"


def record_name(selector: str, domain: str) -> str:
    """Return the name at which a key is published (RFC 6376 §3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def strings(text: str) -> tuple[str, ...]:
    """Split the text of a TXT record into character-strings; a reader joins them again."""
    size = STRING_BYTES_MAX
    return tuple(text[n : n + size] for n in range(0, len(text), size)) or ("",)


def parse_record(text: str) -> PublishedKey | None:
    """Return the key in the joined text of a TXT record, None for what is no key record.

    RFC 6376 §3.6.1: `v=`, when there, comes first; unknown tags are ignored.
    """
    tags = parse_tags(text) if len(text) <= RECORD_BYTES_MAX else None
    if tags is None or "p" not in tags:
        return None
    if "v" in tags and (next(iter(tags)) != "v" or tags["v"] != "DKIM1"):
        return None
    try:
        algorithm = Algorithm(tags.get("k", "rsa"))
        octets = base64.b64decode(re.sub(r"\s+", "", tags["p"]), validate=True)
        key = _public_key(algorithm, octets) if octets else None
    except (ValueError, UnsupportedAlgorithm):
        return None
    flags = _listed(tags.get("t", ""))
    digests, services = _listed(tags.get("h", "sha256")), _listed(tags.get("s", "*"))
    usable = key is not None and "sha256" in digests and not services.isdisjoint({"*", "email"})
    return PublishedKey(algorithm, key, usable, "y" in flags, "s" in flags)


def is_published(wanted: str, found: str) -> bool:
    """Say whether mail signed with the key of `wanted` is verified by the record `found`.

    Both are texts of TXT records; how they are written, and notes in them, do not matter.
    """
    ours, theirs = parse_record(wanted), parse_record(found)
    if ours is None or theirs is None or ours.key is None or theirs.key is None:
        return False
    same = _public_octets(ours.key) == _public_octets(theirs.key)
    return same and theirs.is_usable and not theirs.is_testing


def parse_tags(text: str) -> dict[str, str] | None:
    """Return a tag list in its order, None when it is not one (RFC 6376 §3.2).

    White space around names and values is not theirs; a name that stands twice is an error.
    """
    tags: dict[str, str] = {}
    specs = text.split(";")
    if len(specs) > 1 and not specs[-1].strip():
        specs.pop()
    for spec in specs:
        name, equals, value = spec.partition("=")
        name = name.strip(" \t\r\n")
        if not equals or name in tags or re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) is None:
            return None
        tags[name] = value.strip(" \t\r\n")
    return tags


def _listed(value: str) -> frozenset[str]:
    return frozenset(item.strip().lower() for item in value.split(":"))


def _public_key(algorithm: Algorithm, octets: bytes) -> PublicKey:
    if algorithm is Algorithm.ED25519:
        return Ed25519PublicKey.from_public_bytes(octets)
    key = load_der_public_key(octets)  # Also RSAPublicKey, the form of RFC 6376 §3.6.1.
    if not isinstance(key, RSAPublicKey) or not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
        raise ValueError("not an RSA key of a size that is taken")
    return key


def _public_octets(key: PublicKey) -> bytes:
    if isinstance(key, Ed25519PublicKey):
        return key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


# Rotation ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rotation:
    """What is due. The rest is as it was; `signing` is who signs once all this is done."""

    make: tuple[Algorithm, ...] = ()  # a new key each, PENDING, for the operator to publish
    activate: tuple[str, ...] = ()  # selectors of keys that begin to sign
    retire: tuple[str, ...] = ()  # that sign no more; the private half may be destroyed
    remove: tuple[str, ...] = ()  # whose records may leave the DNS, and which may be forgotten
    signing: tuple[str, ...] = ()  # one of each algorithm that has one

    @property
    def is_due(self) -> bool:
        """Say whether anything is to be done."""
        return bool(self.make or self.activate or self.retire or self.remove)


def rotation(
    keys: Sequence[KeyRecord],
    now_ms: int,
    *,
    published: Collection[str],
    algorithms: Iterable[Algorithm] = tuple(Algorithm),
    early: bool = False,
) -> Rotation:
    """Decide what happens to a domain's keys.

    `published` are the selectors of keys that were found in the DNS; `early` asks for new keys
    now, whatever the age of those there are: the operator thinks that they were stolen.

    For each algorithm: without a key, one is made. The first signs at once: mail whose key
    shows up a little later is no worse off than mail without a signature. Later ones are made
    when the key that signs has done so for SIGN_MS, and take over when they have been seen in
    the DNS and are older than PUBLISH_MS; until then the old one goes on. What signs no more
    may leave the DNS after RETIRE_MS. A clock that was set back only delays all this.

    Keys of an algorithm that is no longer wanted retire.
    """
    wanted = tuple(algorithms)
    made, activated, retired, signing = [], [], [], []
    for algorithm in Algorithm:
        own = sorted(
            (key for key in keys if key.algorithm is algorithm),
            key=lambda key: (key.created_at_ms, key.selector),
        )
        active = [key for key in own if key.state is State.ACTIVE]
        pending = [key for key in own if key.state is State.PENDING]
        if algorithm not in wanted:
            retired += [*active, *pending]
            continue
        signer = _next_signer(active, pending, now_ms, published)
        retired += [key for key in active if key is not signer]
        if signer is not None:
            signing.append(signer.selector)
            # What was made before the key that signs will not follow it.
            retired += [key for key in pending if key is not signer and _older(key, signer)]
            if signer.state is State.PENDING:
                activated.append(signer.selector)
        if _needs_key(signer, pending, now_ms, early):
            made.append(algorithm)
    removed = [
        key.selector
        for key in keys
        if key.state is State.RETIRED and now_ms - key.state_since_ms >= RETIRE_MS
    ]
    return Rotation(
        tuple(made),
        tuple(activated),
        tuple(key.selector for key in retired),
        tuple(removed),
        tuple(signing),
    )


def carried_out(
    keys: Sequence[KeyRecord], due: Rotation, now_ms: int, made: Sequence[KeyRecord] = ()
) -> tuple[KeyRecord, ...]:
    """Return the keys after a rotation, with those that were `made` for it at the end."""
    assert [key.algorithm for key in made] == list(due.make)
    after = []
    for key in keys:
        if key.selector in due.activate:
            after.append(replace(key, state=State.ACTIVE, state_since_ms=now_ms))
        elif key.selector in due.retire:
            after.append(replace(key, state=State.RETIRED, state_since_ms=now_ms))
        elif key.selector not in due.remove:
            after.append(key)
    return (*after, *made)


def next_selector(algorithm: Algorithm, now_ms: int, taken: Collection[str]) -> str:
    """Return a name for a key made now: its algorithm and the day, `rsa-20250301`.

    A selector is never used for another key: its record may be remembered somewhere. `taken`
    are those of the domain's keys that are known.
    """
    day = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%d")
    name = f"{algorithm}-{day}"
    number = 1
    while (selector := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return selector


def new_record(pem: bytes, now_ms: int, taken: Collection[str]) -> KeyRecord:
    """Return the record of a key that was made now. Raises InvalidKey."""
    key = load(pem)
    algorithm = algorithm_of(key)
    selector = next_selector(algorithm, now_ms, taken)
    return KeyRecord(selector, algorithm, public_text(key), now_ms, State.PENDING, now_ms)


def _older(key: KeyRecord, other: KeyRecord) -> bool:
    return (key.created_at_ms, key.selector) < (other.created_at_ms, other.selector)


def _next_signer(
    active: Sequence[KeyRecord],
    pending: Sequence[KeyRecord],
    now_ms: int,
    published: Collection[str],
) -> KeyRecord | None:
    """Return the key that signs from now on; both lists have the oldest first."""
    ready = [
        key
        for key in pending
        if key.selector in published and now_ms - key.created_at_ms >= PUBLISH_MS
    ]
    if ready and (not active or _older(active[-1], ready[-1])):
        return ready[-1]
    if active:
        return active[-1]
    seen = [key for key in pending if key.selector in published]
    candidates = seen or pending
    return candidates[-1] if candidates else None


def _needs_key(
    signer: KeyRecord | None, pending: Sequence[KeyRecord], now_ms: int, early: bool
) -> bool:
    if signer is None:
        return True
    if any(key is not signer and not _older(key, signer) for key in pending):
        return False  # The next one is there already.
    if signer.state is State.PENDING:
        return False  # It begins only now.
    return early or now_ms - signer.state_since_ms >= SIGN_MS
