"""Reception: what the sessions of one gateway share: limits, counters, ports."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from actors.ports import Accounts, Mail, SignIns, Submission
from gateways.smtp.account_rates import AccountRates
from gateways.smtp.farewell import Farewells
from gateways.smtp.origins import Origins
from gateways.smtp.peer_limits import PeerLimits
from gateways.smtp.settings import SessionSettings, SmtpSettings, SubmissionSettings

if TYPE_CHECKING:
    from gateways.smtp.session import Session


class BytesInFlight:
    """The octets of messages that a gateway holds at once, bounded."""

    __slots__ = ("bytes_max", "held_bytes")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.held_bytes = 0

    def has_room(self, size_bytes: int) -> bool:
        """Say whether that much more would fit now."""
        return self.held_bytes + size_bytes <= self.bytes_max


class Hold:
    """The part of one message in BytesInFlight; a context manager that gives it back."""

    __slots__ = ("_held_bytes", "_in_flight")

    def __init__(self, in_flight: BytesInFlight) -> None:
        self._in_flight = in_flight
        self._held_bytes = 0

    def grow(self, size_bytes: int) -> bool:
        """Hold that much more, or return False and hold no more than before."""
        if not self._in_flight.has_room(size_bytes):
            return False
        self._in_flight.held_bytes += size_bytes
        self._held_bytes += size_bytes
        return True

    def release(self) -> None:
        """Give everything back."""
        self._in_flight.held_bytes -= self._held_bytes
        self._held_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(slots=True)
class Counters:
    """What a gateway has done since its start."""

    accepted: int = 0  # messages answered with 250
    refused: int = 0  # MAIL, RCPT, DATA and BDAT answered with 5yz
    deferred: int = 0  # MAIL, RCPT, DATA and BDAT answered with 4yz
    bytes: int = 0  # octets of accepted messages, without our trace
    recipients: int = 0  # of accepted messages
    connections: int = 0
    connections_refused: int = 0
    limited: int = 0  # connections, messages and recipients refused for whom they came from


@dataclass(slots=True, kw_only=True)
class Reception:
    """Everything that a session of any kind needs from outside."""

    settings: SessionSettings
    tls_context: ssl.SSLContext | None
    clock: Callable[[], float]  # Unix time in seconds
    next_id: Callable[[], str]  # transaction ids: atoms, unique in the cluster
    executor: Executor  # for the parsing of large messages
    in_flight: BytesInFlight
    origins: Origins
    peer_limits: PeerLimits
    farewells: Farewells
    counters: Counters = field(default_factory=Counters)
    sessions: set[Session[Any, Any]] = field(default_factory=set)
    draining: bool = False
    emptied: asyncio.Event = field(default_factory=asyncio.Event)  # the last session has ended


@dataclass(slots=True, kw_only=True)
class InboundReception(Reception):
    """What sessions with other servers need besides."""

    settings: SmtpSettings
    accounts: Accounts
    mail: Mail


@dataclass(slots=True, kw_only=True)
class SubmissionReception(Reception):
    """What sessions with our own users need besides."""

    settings: SubmissionSettings
    sign_ins: SignIns
    submission: Submission
    rates: AccountRates
    sign_ins_refused: int = 0
