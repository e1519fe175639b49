"""When an outgoing recipient is tried again, warned of, given up."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.retry import (
    DEFAULT_POLICY,
    DELAY_S_MAX,
    FIRST_S,
    GIVE_UP_AFTER_S,
    JITTER,
    WARN_AFTER_S,
    RetryPolicy,
    next_attempt_ms,
    warning_due,
)

QUEUED_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def attempts_ms(chance: float, policy: RetryPolicy = DEFAULT_POLICY) -> list[int]:
    """Return the times of all attempts after queueing, when every one fails at once."""
    times = [0]
    while True:
        at_ms = next_attempt_ms(
            len(times),
            queued_at_ms=QUEUED_MS,
            now_ms=QUEUED_MS + times[-1],
            chance=chance,
            policy=policy,
        )
        if at_ms is None:
            return times
        times.append(at_ms - QUEUED_MS)


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_the_schedule_of_a_message_that_never_gets_through(chance: float) -> None:
    times = attempts_ms(chance)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert times[1] >= FIRST_S * 1000  # Greylisting wants five minutes.
    assert 2 <= sum(at < HOUR_MS for at in times[1:]) <= 5  # RFC 5321 §4.5.4.1: two at least.
    assert all(earlier <= later for earlier, later in pairwise(gaps[:-1]))
    assert max(gaps) <= DELAY_S_MAX * (1 + JITTER) * 1000
    assert all(gap >= 30 * 60_000 for gap in gaps[8:-1])
    assert times[-1] == GIVE_UP_AFTER_S * 1000  # The last one is made at the end.
    assert len(times) < 60


def test_what_fails_together_does_not_come_back_together() -> None:
    early, late = attempts_ms(0.0)[1], attempts_ms(0.999)[1]
    assert early == FIRST_S * 1000
    assert early < late < early * (1 + JITTER)


def test_time_is_over() -> None:
    def next_at(now_ms: int) -> int | None:
        return next_attempt_ms(9, queued_at_ms=QUEUED_MS, now_ms=now_ms, chance=0.3)

    end_ms = DEFAULT_POLICY.gives_up_at_ms(QUEUED_MS)
    assert end_ms == QUEUED_MS + 5 * DAY_MS
    assert next_at(end_ms) is None
    assert next_at(end_ms + DAY_MS) is None
    assert next_at(end_ms - 1) == end_ms


def test_a_policy_of_seconds() -> None:
    policy = RetryPolicy(first_s=0.001, delay_s_max=1, give_up_after_s=10, warn_after_s=())
    times = attempts_ms(0.0, policy)
    assert times[1] == 1
    assert times[-1] == 10_000
    assert times == sorted(set(times))


@given(
    failed=st.integers(1, 10**9),
    age_ms=st.integers(-DAY_MS, 10 * DAY_MS),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_the_next_attempt_is_later_and_in_time(failed: int, age_ms: int, chance: float) -> None:
    now_ms = QUEUED_MS + age_ms
    at_ms = next_attempt_ms(failed, queued_at_ms=QUEUED_MS, now_ms=now_ms, chance=chance)
    if at_ms is None:
        assert age_ms >= 5 * DAY_MS
    else:
        assert now_ms < at_ms <= QUEUED_MS + 5 * DAY_MS


def due(age_ms: int, warned_ms: int | None = None, *, null_sender: bool = False) -> bool:
    return warning_due(
        queued_at_ms=QUEUED_MS,
        now_ms=QUEUED_MS + age_ms,
        warned_at_ms=None if warned_ms is None else QUEUED_MS + warned_ms,
        null_sender=null_sender,
    )


def test_a_warning_after_four_hours_and_one_after_a_day() -> None:
    assert WARN_AFTER_S == (4 * 3600, 24 * 3600)
    assert not due(4 * HOUR_MS - 1)
    assert due(4 * HOUR_MS)
    assert due(6 * HOUR_MS)
    assert not due(6 * HOUR_MS, 4 * HOUR_MS)
    assert not due(23 * HOUR_MS, 6 * HOUR_MS)
    assert due(24 * HOUR_MS, 6 * HOUR_MS)
    assert not due(4 * DAY_MS, 24 * HOUR_MS)


def test_after_an_outage_one_warning_stands_for_both() -> None:
    assert due(2 * DAY_MS)
    assert not due(3 * DAY_MS, 2 * DAY_MS)


def test_no_warning_to_the_null_sender_nor_when_time_is_over() -> None:
    assert not due(6 * HOUR_MS, null_sender=True)
    assert not due(2 * DAY_MS, null_sender=True)
    assert not due(5 * DAY_MS)
