"""AccountRates: how much one account may send in an hour.

Pure: the time is an argument. A token bucket for messages and one for recipients, each as large
as an hour's worth: who was silent may send all of it at once, and then goes on at the rate. Each
is one number, the time at which it is full again.

Bounds      TRACKED_MAX accounts; the one that was silent for longest is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum

from actors.commands import MailboxId

HOUR_S = 3600.0
TRACKED_MAX = 1 << 16  # About 200 octets each.


class Sending(IntEnum):
    """What is counted."""

    MESSAGE = 0
    RECIPIENT = 1


class AccountRates:
    """Bounds what accounts send; 0 is without limit."""

    __slots__ = ("_full_at_s", "_intervals_s", "_tracked_max")

    def __init__(
        self,
        *,
        messages_per_hour: int,
        recipients_per_hour: int,
        tracked_max: int = TRACKED_MAX,
    ) -> None:
        rates = (messages_per_hour, recipients_per_hour)
        self._intervals_s = tuple(HOUR_S / rate if rate else 0.0 for rate in rates)
        self._full_at_s: OrderedDict[MailboxId, list[float]] = OrderedDict()
        self._tracked_max = tracked_max

    def __len__(self) -> int:
        """Return how many accounts are remembered for what they sent."""
        return len(self._full_at_s)

    def take(self, account: MailboxId, sending: Sending, now_s: float) -> float:
        """Count one and return 0, or count nothing and return the seconds until there is room."""
        interval_s = self._intervals_s[sending]
        if not interval_s:
            return 0.0
        buckets = self._full_at_s.get(account) or [0.0] * len(Sending)
        full_at_s = max(buckets[sending], now_s) + interval_s
        # Half an interval of tolerance: sums of floats are not exact.
        wait_s = full_at_s - now_s - HOUR_S
        if wait_s > interval_s / 2:
            return wait_s
        buckets[sending] = full_at_s
        self._full_at_s[account] = buckets
        self._full_at_s.move_to_end(account)
        if len(self._full_at_s) > self._tracked_max:
            self._full_at_s.popitem(last=False)
        return 0.0
