"""PeerLimits: how much one address and one network may ask of a gateway.

Pure: the time is an argument. Connections at once are counted; what happens over time is bounded
by token buckets that hold one minute's worth, so that a burst of a minute passes and a steady
stream passes at the rate. Each bucket is one number, the time at which it is full again.

Bounds      TRACKED_MAX addresses and as many networks; the one that was silent for longest is
            forgotten first, and what is forgotten has full buckets. Counts of open connections
            are never forgotten: there are no more of them than connections.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import IntEnum

from gateways.smtp.origins import Origin

WINDOW_S = 60.0
# Of failures, which cannot be refused when they happen: no more than so much is held against a
# peer, so that one who stops is heard again a minute later.
DEBT_WINDOWS_MAX = 2
TRACKED_MAX = 1 << 16  # About 200 octets each.


class Doing(IntEnum):
    """What peers do over time."""

    CONNECT = 0
    MESSAGE = 1
    RECIPIENT = 2
    FAIL = 3  # a recipient that is not here, a wrong command


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one peer may do; 0 is without limit."""

    connections_max: int = 0  # at once
    connections_per_minute: int = 0
    messages_per_minute: int = 0
    recipients_per_minute: int = 0
    failures_per_minute: int = 0  # beyond it, connections are refused until they are forgotten

    def __post_init__(self) -> None:
        assert min(self.connections_max, *self.rates) >= 0

    @property
    def rates(self) -> tuple[int, int, int, int]:
        """Return the rates in the order of Doing."""
        return (
            self.connections_per_minute,
            self.messages_per_minute,
            self.recipients_per_minute,
            self.failures_per_minute,
        )


UNLIMITED = Limits()


class Ledger:
    """The peers of one kind: addresses, or networks."""

    __slots__ = ("_buckets", "_intervals_s", "_limits", "_open", "_tracked_max")

    def __init__(self, limits: Limits, tracked_max: int) -> None:
        self._limits = limits
        self._intervals_s = tuple(WINDOW_S / rate if rate else 0.0 for rate in limits.rates)
        self._open: dict[bytes, int] = {}
        self._buckets: OrderedDict[bytes, list[float]] = OrderedDict()
        self._tracked_max = tracked_max

    def __len__(self) -> int:
        """Return how many peers are remembered for what they did."""
        return len(self._buckets)

    def may_open(self, peer: bytes) -> bool:
        """Say whether one more connection is within the limit."""
        limit = self._limits.connections_max
        return not limit or self._open.get(peer, 0) < limit

    def opened(self, peer: bytes) -> None:
        """Count a connection."""
        self._open[peer] = self._open.get(peer, 0) + 1

    def closed(self, peer: bytes) -> None:
        """Count a connection no more."""
        left = self._open[peer] - 1
        if left:
            self._open[peer] = left
        else:
            del self._open[peer]

    def has_room(self, peer: bytes, doing: Doing, now_s: float) -> bool:
        """Say whether the bucket still has one."""
        interval_s = self._intervals_s[doing]
        buckets = self._buckets.get(peer)
        if not interval_s or buckets is None:
            return True
        # Half an interval of tolerance: sums of floats are not exact.
        return buckets[doing] - now_s <= WINDOW_S - interval_s / 2

    def take(self, peer: bytes, doing: Doing, now_s: float) -> None:
        """Take one out of the bucket, also when it is empty."""
        interval_s = self._intervals_s[doing]
        if not interval_s:
            return
        buckets = self._buckets.get(peer)
        if buckets is None:
            if len(self._buckets) >= self._tracked_max:
                self._buckets.popitem(last=False)
            buckets = self._buckets[peer] = [0.0] * len(Doing)
        else:
            self._buckets.move_to_end(peer)
        full_at_s = max(buckets[doing], now_s) + interval_s
        buckets[doing] = min(full_at_s, now_s + DEBT_WINDOWS_MAX * WINDOW_S)


class PeerLimits:
    """Bounds what addresses and networks do. Answers are names of who does too much, or ""."""

    __slots__ = ("_ledgers",)

    def __init__(self, address: Limits, network: Limits, tracked_max: int = TRACKED_MAX) -> None:
        self._ledgers = (
            ("address", Ledger(address, tracked_max)),
            ("network", Ledger(network, tracked_max)),
        )

    def connect(self, origin: Origin, now_s: float) -> str:
        """Count a connection, or return why there can be none now."""
        peers = (origin.address, origin.network)
        for (name, ledger), peer in zip(self._ledgers, peers, strict=True):
            if not ledger.may_open(peer):
                return f"Too many connections from your {name}"
            if not ledger.has_room(peer, Doing.CONNECT, now_s):
                return f"Too many connections a minute from your {name}"
            if not ledger.has_room(peer, Doing.FAIL, now_s):
                return f"Too many errors from your {name}"
        for (_, ledger), peer in zip(self._ledgers, peers, strict=True):
            ledger.opened(peer)
            ledger.take(peer, Doing.CONNECT, now_s)
        return ""

    def disconnect(self, origin: Origin) -> None:
        """Count a connection no more."""
        for (_, ledger), peer in zip(self._ledgers, (origin.address, origin.network), strict=True):
            ledger.closed(peer)

    def take(self, origin: Origin, doing: Doing, now_s: float) -> str:
        """Count what a peer wants to do, or return whose it is too much: nothing is counted."""
        peers = (origin.address, origin.network)
        for (name, ledger), peer in zip(self._ledgers, peers, strict=True):
            if not ledger.has_room(peer, doing, now_s):
                return name
        for (_, ledger), peer in zip(self._ledgers, peers, strict=True):
            ledger.take(peer, doing, now_s)
        return ""

    def fail(self, origin: Origin, now_s: float) -> str:
        """Count a failure; return whose failures are too many with it."""
        too_many = ""
        for (name, ledger), peer in zip(
            self._ledgers, (origin.address, origin.network), strict=True
        ):
            ledger.take(peer, Doing.FAIL, now_s)
            if not too_many and not ledger.has_room(peer, Doing.FAIL, now_s):
                too_many = name
        return too_many
