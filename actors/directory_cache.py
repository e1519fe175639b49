"""DirectoryCache: what the directory said, for as long as it is still so."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import OrderedDict

from actors.commands import Account

CACHE_ENTRIES_MAX = 100_000


class DirectoryCache:
    """What the directory said and is still so: emptied at its every change.

    Serves only while the watch on the directory's version is alive. Refusals are never
    cached: 550 and 535 come from the directory itself.
    """

    def __init__(self) -> None:
        self.version = 0
        self.live = False
        self._accounts: OrderedDict[object, Account] = OrderedDict()
        self._key = os.urandom(32)

    def get(self, name: object) -> Account | None:
        return self._accounts.get(name) if self.live else None

    def put(self, name: object, account: Account, version: int) -> None:
        """Keep an answer that was asked for at `version`."""
        if version != self.version:
            return  # It may be older than the change.
        self._accounts[name] = account
        if len(self._accounts) > CACHE_ENTRIES_MAX:
            self._accounts.popitem(last=False)

    def changed(self, version: int) -> None:
        if version != self.version:
            self._accounts.clear()
        self.version = version
        self.live = True

    def lost(self) -> None:
        self.live = False

    def secret_name(self, name: str, password: str) -> bytes:
        """Return a name for a sign-in that does not hold the password."""
        text = name.encode() + b"\0" + password.encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, hashlib.sha256)
