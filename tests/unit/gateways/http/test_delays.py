"""Delays of failed sign-ins: growth, fading, bounds, and whom they leave alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateways.http import delays
from gateways.http.delays import Attempt, FailureDelays, attempt_of, network_of

HERE = attempt_of("192.0.2.7", "alice@example.test")


def test_delays_double_up_to_the_most() -> None:
    table = FailureDelays()
    assert [table.failed(HERE, 0.0) for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]


def test_failures_fade_by_half_every_half_life() -> None:
    table = FailureDelays()
    for _ in range(4):
        table.failed(HERE, 0.0)
    assert table.failed(HERE, delays.HALF_LIFE_S) == pytest.approx(0.5 * 2**2)
    assert table.failed(HERE, 100 * delays.HALF_LIFE_S) == pytest.approx(0.5)


def test_network_and_name_count_each_for_itself() -> None:
    table = FailureDelays()
    for number in range(3):
        table.failed(attempt_of("192.0.2.7", f"name{number}"), 0.0)
    assert table.failed(attempt_of("192.0.2.8", "other"), 0.0) == 4.0, "one network"
    assert table.failed(attempt_of("198.51.100.1", "NAME0 "), 0.0) == 1.0, "one name"
    assert table.failed(attempt_of("203.0.113.1", "fresh"), 0.0) == 0.5


@pytest.mark.parametrize(
    "host, network",
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("testclient", "unknown"),
    ],
)
def test_networks(host: str, network: str) -> None:
    assert network_of(host) == network


def test_attempts_going_on_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delays, "PAIR_MAX", 2)
    monkeypatch.setattr(delays, "NETWORK_MAX", 3)
    monkeypatch.setattr(delays, "TOTAL_MAX", 4)
    table = FailureDelays()
    one, two = attempt_of("192.0.2.7", "one"), attempt_of("192.0.2.9", "two")
    far, farther = attempt_of("198.51.100.1", "one"), attempt_of("203.0.113.1", "one")
    assert [table.begin(one, 0.0) for _ in range(3)] == [True, True, False]
    assert [table.begin(two, 0.0) for _ in range(2)] == [True, False]
    assert [table.begin(far, 0.0), table.begin(farther, 0.0)] == [True, False]
    table.end(one)
    assert table.begin(farther, 0.0)


def test_known_pairs_are_not_locked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delays, "NETWORK_MAX", 1)
    monkeypatch.setattr(delays, "KNOWN_PAIR_MAX", 2)
    table = FailureDelays()
    table.succeeded(HERE, 0.0)
    assert table.begin(attempt_of("192.0.2.7", "flood"), 0.0)
    assert [table.begin(HERE, 1.0) for _ in range(3)] == [True, True, False]
    for _ in range(2):
        table.end(HERE)
    assert not table.begin(HERE, delays.KNOWN_FOR_S + 1.0), "known for a while only"


def test_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delays, "ENTRIES_MAX", 10)
    monkeypatch.setattr(delays, "KNOWN_MAX", 10)
    table = FailureDelays()
    for number in range(100):
        attempt = Attempt(str(number), str(number))
        table.failed(attempt, 0.0)
        table.succeeded(attempt, 0.0)
    assert len(table._failures) == len(table._known) == 10


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=60))
def test_what_began_and_ended_leaves_nothing(pairs: list[tuple[str, str]]) -> None:
    table = FailureDelays()
    begun = [attempt for pair in pairs if table.begin(attempt := Attempt(*pair), 0.0)]
    for attempt in begun:
        table.end(attempt)
    assert not table._pairs
    assert not table._networks
    assert table._total == 0


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e9), max_size=300))
def test_delays_stay_within_their_bounds(times: list[float]) -> None:
    table = FailureDelays()
    for now_s in times:  # even with a clock that jumps
        assert delays.FIRST_DELAY_S <= table.failed(HERE, now_s) <= delays.DELAY_S_MAX
