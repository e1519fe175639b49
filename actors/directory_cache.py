"""DirectoryCache: what the directory said, for as long as it is still so."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from actors.account_commands import Access
from actors.commands import Account, MailboxId

# An entry takes the octets of what was said, and about this much for the objects around it.
CACHE_BYTES_MAX = 64 << 20
ENTRY_BYTES = 800

_encoder = msgspec.msgpack.Encoder()

SaidT = TypeVar("SaidT", bound=Account | Access)


@dataclass(frozen=True, slots=True)
class Name(Generic[SaidT]):
    """What was asked: of which kind, and which text or digest."""

    kind: type[SaidT]
    key: object


@dataclass(frozen=True, slots=True)
class _Entry:
    said: Account | Access
    mailbox: MailboxId
    until_ms: int
    size_bytes: int


class DirectoryCache:
    """What the directory said and is still so: changes take out what they are about.

    Serves only while the watch on the directory's version is alive, so that what ended is
    served for no longer than a lost watch goes unnoticed. Refusals are never cached: 550 and
    535 come from the directory itself.
    """

    def __init__(self) -> None:
        self.version = 0
        self.live = False
        self._entries: OrderedDict[object, _Entry] = OrderedDict()
        self._names: dict[MailboxId, set[object]] = {}
        self._key = os.urandom(32)
        self._size_bytes = 0
        self._hits = 0
        self._misses = 0

    def counts(self) -> dict[str, float]:
        """Return what the cache holds, in octets, and how often it was of use."""
        return {
            "directory_cache_bytes": self._size_bytes,
            "directory_cache_hits_total": self._hits,
            "directory_cache_misses_total": self._misses,
        }

    def get(self, name: Name[SaidT], now_ms: int) -> SaidT | None:
        """Return what was said, None when it is not known or may have changed."""
        entry = self._entries.get(name) if self.live else None
        if entry is not None and now_ms >= entry.until_ms:
            self._forget(name)
            entry = None
        if entry is None:
            self._misses += 1
            return None
        self._hits += 1
        self._entries.move_to_end(name)
        assert isinstance(entry.said, name.kind)
        return entry.said

    def put(self, name: Name[SaidT], said: SaidT, *, version: int, until_ms: int) -> None:
        """Keep an answer that was asked for at `version`, for some time."""
        if version != self.version:
            return  # It may be older than the change.
        self._forget(name)
        mailbox = said.mailbox if isinstance(said, Account) else said.account.mailbox
        size_bytes = len(_encoder.encode(said)) + ENTRY_BYTES
        self._entries[name] = _Entry(said, mailbox, until_ms, size_bytes)
        self._size_bytes += size_bytes
        self._names.setdefault(mailbox, set()).add(name)
        while self._size_bytes > CACHE_BYTES_MAX:
            self._forget(next(iter(self._entries)))

    def changed(self, version: int, touched: Collection[MailboxId] | None) -> None:
        """Take out what may no longer be so: what is about `touched`, None for all."""
        if version != self.version:
            if touched is None:
                self._entries.clear()
                self._names.clear()
                self._size_bytes = 0
            else:
                for mailbox in touched:
                    for name in self._names.pop(mailbox, ()):
                        self._size_bytes -= self._entries.pop(name).size_bytes
        self.version = version
        self.live = True

    def lost(self) -> None:
        self.live = False

    def _forget(self, name: object) -> None:
        entry = self._entries.pop(name, None)
        if entry is None:
            return
        self._size_bytes -= entry.size_bytes
        names = self._names[entry.mailbox]
        names.discard(name)
        if not names:
            del self._names[entry.mailbox]

    def secret_name(self, name: str, password: str) -> Name[Access]:
        """Return a name for a sign-in that does not hold the password."""
        text = name.encode("utf-8", "surrogatepass") + b"\0"
        text += password.encode("utf-8", "surrogatepass")
        return Name(Access, hmac.digest(self._key, text, hashlib.sha256))
