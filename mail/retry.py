"""Retry: when an outgoing recipient is tried again, when its sender is warned, when it is over.

Pure: the clock and chance are arguments. Times are Unix time in milliseconds.

The delay grows by half each time, from five minutes to three hours: some five tries fall into
the first hour, when most short troubles end, and one into every three hours or so later, until
five days are over. The last try is made at the end itself.
"""

from __future__ import annotations

from dataclasses import dataclass

# A greylisting server commonly refuses whoever comes back within five minutes; later is late mail.
FIRST_S = 5 * 60
# RFC 5321 §4.5.4.1: two tries in the first hour, then every two or three hours; and from some
# time on never within 30 minutes.
DELAY_S_MAX = 3 * 60 * 60
GROWTH = 1.5
# What fails together must not come back together. Only ever longer: an earlier try might fall
# into the time for which a greylisting server wants us to wait.
JITTER = 0.25
GIVE_UP_AFTER_S = 5 * 24 * 60 * 60  # RFC 5321 §4.5.4.1: at least 4 to 5 days.
# Before the working day is over, and again when another day can still be used.
WARN_AFTER_S = (4 * 60 * 60, 24 * 60 * 60)
# More steps change nothing: GROWTH ** 64 times one second is longer than any DELAY_S_MAX.
STEPS_MAX = 64


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The schedule of every recipient. `warn_after_s` counts from when the message was queued."""

    first_s: float = FIRST_S
    delay_s_max: float = DELAY_S_MAX
    give_up_after_s: float = GIVE_UP_AFTER_S
    warn_after_s: tuple[float, ...] = WARN_AFTER_S

    def __post_init__(self) -> None:
        assert 0 < self.first_s <= self.delay_s_max
        assert self.give_up_after_s > 0
        assert all(after_s > 0 for after_s in self.warn_after_s)

    def gives_up_at_ms(self, queued_at_ms: int) -> int:
        """Return the end of the time for which a message is tried: a DSN's Will-Retry-Until."""
        return queued_at_ms + round(self.give_up_after_s * 1000)


DEFAULT_POLICY = RetryPolicy()


def next_attempt_ms(
    failed: int,
    *,
    queued_at_ms: int,
    now_ms: int,
    chance: float,
    policy: RetryPolicy = DEFAULT_POLICY,
) -> int | None:
    """Return when to try again after the attempt that has just failed, None when time is over.

    `failed` counts the failed attempts, this one included; `chance` is a random number in
    [0, 1). Asked after an attempt only, so that mail that lay still during a long outage is
    tried once before it goes back.
    """
    assert failed >= 1
    assert 0 <= chance < 1
    end_ms = policy.gives_up_at_ms(queued_at_ms)
    if now_ms >= end_ms:
        return None
    delay_s = min(policy.first_s * GROWTH ** min(failed - 1, STEPS_MAX), policy.delay_s_max)
    # At least a millisecond: a time that is not later would be tried without a pause.
    delay_ms = max(1, round(delay_s * (1 + JITTER * chance) * 1000))
    return min(now_ms + delay_ms, end_ms)


def warning_due(
    *,
    queued_at_ms: int,
    now_ms: int,
    warned_at_ms: int | None,
    null_sender: bool,
    policy: RetryPolicy = DEFAULT_POLICY,
) -> bool:
    """Say whether the sender is to be told now that the message is late.

    `warned_at_ms` is when that was last done, None for never. One warning stands for all that
    are due at once. There is none to the null sender (RFC 5321 §4.5.5), nor when time is over
    and the bounce says more. What the sender wished (NOTIFY) is `mail.dsn.is_wanted`.
    """
    if null_sender or now_ms >= policy.gives_up_at_ms(queued_at_ms):
        return False
    due_ms = [queued_at_ms + round(after_s * 1000) for after_s in policy.warn_after_s]
    return any(due <= now_ms and (warned_at_ms is None or warned_at_ms < due) for due in due_ms)
