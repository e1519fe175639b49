"""Request ids: UUIDv7, so that a shard can tell how old one is (RFC 9562 §5.7)."""

from __future__ import annotations

import os
import time

from actors.commands import RequestId


def new_request_id() -> RequestId:
    """Return a fresh id whose first 48 bits are the time in milliseconds."""
    return request_id_from(now_ms=time.time_ns() // 1_000_000, random=os.urandom(10))


def request_id_from(*, now_ms: int, random: bytes) -> RequestId:
    """Return the UUIDv7 of a time and ten random octets."""
    octets = bytearray(now_ms.to_bytes(6, "big") + random)
    octets[6] = octets[6] & 0x0F | 0x70
    octets[8] = octets[8] & 0x3F | 0x80
    return RequestId(bytes(octets))
