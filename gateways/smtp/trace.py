"""Build the trace block: what this server writes before the octets that it received.

Pure. Return-Path, Delivered-To and Received (RFC 5321 §4.4), folded at 78 characters where the
words allow it (RFC 5322 §2.1.1), each line ending in CRLF. What the peer says of itself cannot
bring in a line of its own: of the HELO text only the letters of a name or a literal are kept.
Raw UTF-8 comes in with an address of a transaction with SMTPUTF8 only (RFC 6531 §3.7.3).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

FOLD_AT = 78  # RFC 5322 §2.1.1
HELO_CHARS_MAX = 255  # RFC 5321 §4.5.3.1.2
NOT_OF_A_NAME = re.compile(r"[^A-Za-z0-9.:\[\]_-]")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Tls(NamedTuple):
    """What protects the connection."""

    version: str  # "TLSv1.3"
    cipher: str  # "TLS_AES_256_GCM_SHA384"


class Hop(NamedTuple):
    """One transaction of one peer, as far as its trace tells."""

    peer_ip: str  # "" when it has none
    helo: str
    hostname: str  # ours
    extended: bool  # it said EHLO
    smtputf8: bool
    tls: Tls | None
    transaction_id: str  # an atom
    received_at_ms: int  # Unix time
    signed_in: bool = False
    told: bool = True  # who it was; of our own users the world is told nothing


def protocol_name(*, extended: bool, smtputf8: bool, tls: bool, signed_in: bool = False) -> str:
    """Return the name for `with` (RFC 3848 §1; RFC 6531 §4.3)."""
    name = "UTF8SMTP" if smtputf8 else "ESMTP" if extended else "SMTP"
    return name if name == "SMTP" else name + "S" * tls + "A" * signed_in


def received_field(hop: Hop, recipient: str | None) -> str:
    """Return the Received field; `recipient` is the only one, None when there are several.

    With several, naming one would tell it to the others (RFC 5321 §7.2).
    """
    protocol = protocol_name(
        extended=hop.extended,
        smtputf8=hop.smtputf8,
        tls=hop.tls is not None,
        signed_in=hop.signed_in,
    )
    lines = _client(hop) if hop.told else "Received:"
    by = f"\tby {hop.hostname}" if hop.told else f" by {hop.hostname}"
    lines += ("\r\n" if hop.told else "") + _line(by, f"with {protocol} id {hop.transaction_id}")
    if hop.tls is not None:
        lines += f"\r\n\t(using {hop.tls.version} with cipher {hop.tls.cipher})"
    if recipient is not None:
        lines += f"\r\n\tfor <{recipient}>"
    return f"{lines};\r\n\t{_date(hop.received_at_ms // 1000)}\r\n"


def trace_block(*, mail_from: str, delivered_to: str, received: str) -> bytes:
    """Return the block for one recipient; `mail_from` is "" for the null reverse path."""
    assert not _has_control(mail_from)
    assert not _has_control(delivered_to)
    return (f"Return-Path: <{mail_from}>\r\nDelivered-To: {delivered_to}\r\n{received}").encode()


def _client(hop: Hop) -> str:
    literal = _address_literal(hop.peer_ip)
    client = f"Received: from {_name(hop.helo)}"
    return _line(client, f"({literal})") if literal else client


def _line(first: str, second: str) -> str:
    joint = " " if len(first) + 1 + len(second) <= FOLD_AT else "\r\n\t"
    return first + joint + second


def _name(helo: str) -> str:
    return NOT_OF_A_NAME.sub("?", helo[:HELO_CHARS_MAX])


def _address_literal(ip: str) -> str:
    """Return the address as RFC 5321 §4.1.3 writes it."""
    if ":" not in ip:
        return f"[{ip}]" if ip else ""
    ip = ip.partition("%")[0]  # The zone of a link-local address means nothing elsewhere.
    mapped = ip.removeprefix("::ffff:")
    return f"[{mapped}]" if "." in mapped and ":" not in mapped else f"[IPv6:{ip}]"


@lru_cache(maxsize=8)  # Messages of one second share it.
def _date(unix_s: int) -> str:
    """Return a date-time of RFC 5322 §3.3, in English whatever the locale."""
    at = datetime.fromtimestamp(unix_s, UTC)
    return f"{DAYS[at.weekday()]}, {at.day:02} {MONTHS[at.month - 1]} {at.year} {at:%H:%M:%S} +0000"


def _has_control(text: str) -> bool:
    return "\r" in text or "\n" in text or "\0" in text
