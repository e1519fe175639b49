"""Delays of failed sign-ins, without I/O: guessing gets slow, the right password never does.

Every failure is remembered for the client's network and for the account's name, and fades
with a half-life. A failed attempt waits as long as the worse of the two says. Attempts count
while they go on: the number of attempts that are being checked or are waiting is bounded
for a (network, name), for a network and in all, and beyond that an attempt is turned away
*before* its password is looked at, so that more connections give no more guesses. A pair that
has signed in before is counted for itself alone: a flood from elsewhere does not lock it out.

State  soft and bounded; lost on restart, which costs an attacker one restart's patience.
"""

from __future__ import annotations

import ipaddress
import math
from collections import Counter, OrderedDict
from dataclasses import dataclass

FIRST_DELAY_S = 0.5
DELAY_S_MAX = 10.0  # below the patience of mail clients
HALF_LIFE_S = 120.0
ENTRIES_MAX = 20_000  # two a failure; about 150 octets each
KNOWN_MAX = 20_000
KNOWN_FOR_S = 30 * 86_400.0
PAIR_MAX = 16  # a client's first connections, all at once
KNOWN_PAIR_MAX = 64  # a family of devices behind one address
NETWORK_MAX = 128  # an office behind one address
TOTAL_MAX = 2_000  # a timer and a connection each
NAME_LENGTH_MAX = 320  # RFC 5321 §4.5.3.1: 64 octets, "@", 255 octets


@dataclass(slots=True)
class Failures:
    """How often it failed, as of `at_s`; fades by half every half-life."""

    count: float
    at_s: float

    def count_at(self, now_s: float) -> float:
        """Return what is left of the count."""
        half_lives = max(0.0, now_s - self.at_s) / HALF_LIFE_S
        return self.count * math.exp2(-half_lives)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who tries to sign in, in the form in which attempts are counted."""

    network: str
    name: str


def attempt_of(client_host: str, name: str) -> Attempt:
    """Return the attempt for a client's IP address and the name it gave."""
    return Attempt(network_of(client_host), name.strip().casefold()[:NAME_LENGTH_MAX])


def network_of(host: str) -> str:
    """Return the network that one client can be assumed to hold: /24 of IPv4, /64 of IPv6."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    prefix = 24 if address.version == 4 else 64
    return str(ipaddress.ip_network((address, prefix), strict=False))


class FailureDelays:
    """Count failures and say how long the next one waits."""

    def __init__(self) -> None:
        self._failures: OrderedDict[tuple[str, str], Failures] = OrderedDict()
        self._known: OrderedDict[Attempt, float] = OrderedDict()
        self._pairs: Counter[Attempt] = Counter()
        self._networks: Counter[str] = Counter()
        self._total = 0

    def begin(self, attempt: Attempt, now_s: float) -> bool:
        """Count an attempt as going on; False when there are too many: answer 429 at once."""
        known_at_s = self._known.get(attempt)
        if known_at_s is not None and now_s - known_at_s < KNOWN_FOR_S:
            room = self._pairs[attempt] < KNOWN_PAIR_MAX
        else:
            room = (
                self._pairs[attempt] < PAIR_MAX
                and self._networks[attempt.network] < NETWORK_MAX
                and self._total < TOTAL_MAX
            )
        if room:
            self._pairs[attempt] += 1
            self._networks[attempt.network] += 1
            self._total += 1
        return room

    def end(self, attempt: Attempt) -> None:
        """Count an attempt as answered."""
        assert self._pairs[attempt] > 0
        self._total -= 1
        self._pairs[attempt] -= 1
        if not self._pairs[attempt]:
            del self._pairs[attempt]
        self._networks[attempt.network] -= 1
        if not self._networks[attempt.network]:
            del self._networks[attempt.network]

    def succeeded(self, attempt: Attempt, now_s: float) -> None:
        """Remember that this client knows the password."""
        self._known[attempt] = now_s
        self._known.move_to_end(attempt)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def failed(self, attempt: Attempt, now_s: float) -> float:
        """Count a failure; return the seconds to wait before the client hears of it."""
        by_network = self._count(("network", attempt.network), now_s)
        by_name = self._count(("name", attempt.name), now_s)
        while len(self._failures) > ENTRIES_MAX:
            self._failures.popitem(last=False)
        exponent = min(max(by_network, by_name), 32.0) - 1.0  # exp2(1024) would be no float
        return min(DELAY_S_MAX, FIRST_DELAY_S * math.exp2(exponent))

    def _count(self, key: tuple[str, str], now_s: float) -> float:
        failures = self._failures.get(key)
        count = 1.0 + (failures.count_at(now_s) if failures else 0.0)
        self._failures[key] = Failures(count, now_s)
        self._failures.move_to_end(key)
        return count
