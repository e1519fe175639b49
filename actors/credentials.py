"""Credentials: what is kept of a password, and how a password is checked.

argon2id (RFC 9106) checks passwords that come in whole; SCRAM-SHA-256 keys (RFC 5802 §3,
RFC 7677) are kept beside it for clients that never send theirs. A hash costs tens of
milliseconds and tens of megabytes, so few run at once, in threads, behind a bounded queue.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import unicodedata
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from mail.errors import Invalid, Overloaded
from storage.records import CredentialRecord

PASSWORD_BYTES_MAX = 1024
SCRAM_ITERATIONS = 4096  # RFC 7677 §4: at least
SALT_BYTES = 16
HASHES_AT_ONCE = 2
HASHES_WAITING_MAX = 64
KNOWN_MAX = 10_000

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class HashCost:
    """Parameters of argon2id: the second recommended option of RFC 9106 §4, one lane."""

    passes: int = 3
    memory_kib: int = 64 * 1024
    lanes: int = 1


def prepared(password: str) -> bytes:
    """Return a password as OpaqueString prepares it (RFC 8265 §4.2). Raises Invalid."""
    text = "".join(" " if unicodedata.category(c) == "Zs" else c for c in password)
    text = unicodedata.normalize("NFC", text)
    if not text or any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        raise Invalid("the password is empty or holds control characters")
    octets = text.encode()
    if len(octets) > PASSWORD_BYTES_MAX:
        raise Invalid(f"the password is longer than {PASSWORD_BYTES_MAX} octets")
    return octets


def scram_keys(password: bytes, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """Return StoredKey and ServerKey (RFC 5802 §3)."""
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hashlib.sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256")


class Hasher:
    """Makes and checks credentials off the loop, a bounded number at a time."""

    def __init__(self, cost: HashCost | None = None) -> None:
        cost = cost or HashCost()
        self._hasher = PasswordHasher(
            time_cost=cost.passes,
            memory_cost=cost.memory_kib,
            parallelism=cost.lanes,
            type=Type.ID,
        )
        self._threads = ThreadPoolExecutor(HASHES_AT_ONCE, thread_name_prefix="hash")
        self._waiting = 0
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._nobody: CredentialRecord | None = None

    async def make(self, password: str, *, now_ms: int) -> CredentialRecord:
        """Return the record of a new password. Raises Invalid, Overloaded."""
        octets = prepared(password)
        return await self._off_loop(lambda: self._make(octets, now_ms))

    def _make(self, password: bytes, now_ms: int) -> CredentialRecord:
        salt = os.urandom(SALT_BYTES)
        stored_key, server_key = scram_keys(password, salt, SCRAM_ITERATIONS)
        return CredentialRecord(
            argon2id=self._hasher.hash(password),
            scram_salt=salt,
            scram_iterations=SCRAM_ITERATIONS,
            scram_stored_key=stored_key,
            scram_server_key=server_key,
            changed_at_ms=now_ms,
        )

    async def check(self, record: CredentialRecord | None, password: str) -> bool:
        """Say whether the password is right. Nobody's (None) takes as long, and is never right.

        Raises Overloaded.
        """
        try:
            octets = prepared(password)
        except Invalid:
            octets, record = b"-", None
        if record is None:
            if self._nobody is None:
                self._nobody = await self._off_loop(lambda: self._make(os.urandom(16), 0))
            await self._off_loop(lambda: self._verify(self._nobody, octets))
            return False
        # Bound to the very hash, so a changed password ends it at once.
        known = hmac.digest(self._key, record.argon2id.encode() + b"\0" + octets, "sha256")
        if known in self._known:
            return True
        if not await self._off_loop(lambda: self._verify(record, octets)):
            return False
        self._known[known] = None
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return True

    def _verify(self, record: CredentialRecord | None, password: bytes) -> bool:
        assert record is not None
        try:
            return self._hasher.verify(record.argon2id, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _off_loop(self, work: Callable[[], ResultT]) -> ResultT:
        if self._waiting >= HASHES_WAITING_MAX:
            raise Overloaded
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._threads.shutdown(wait=True)
