"""Replies: what a shard remembers of the requests it has answered (R8)."""

from __future__ import annotations

from itertools import islice

from storage import keys
from storage.transaction import Overlay

# Forgotten in one turn: more than one turn in 32 brings.
PRUNED_MAX = 64


def made_at_ms(request_id: bytes) -> int:
    """Return when a request id was made: the first 48 bits of a UUIDv7 (RFC 9562 §5.7)."""
    return int.from_bytes(request_id[:6], "big")


def prune(overlay: Overlay, mailbox: int, *, before_ms: int) -> None:
    """Forget some replies to requests that were made before a time."""
    start = keys.reply(mailbox, b"")
    end = start + max(0, before_ms).to_bytes(6, "big")
    for key, _ in list(islice(overlay.scan(start, end), PRUNED_MAX)):
        overlay.delete(key)
