"""Limits of addresses and networks: counts, buckets, and what is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.smtp.origins import Origin
from gateways.smtp.peer_limits import UNLIMITED, WINDOW_S, Doing, Limits, PeerLimits

NOW_S = 1000.0


def origin(network: int, host: int) -> Origin:
    return Origin(bytes((192, 0, network, host)), bytes((192, 0, network)), False, False)


ONE, NEIGHBOUR, STRANGER = origin(2, 1), origin(2, 2), origin(3, 1)


def test_connections_at_once_of_an_address() -> None:
    limits = PeerLimits(Limits(connections_max=2), UNLIMITED)
    assert [limits.connect(ONE, NOW_S) for _ in range(3)] == [
        "", "", "Too many connections from your address",
    ]  # fmt: skip
    assert limits.connect(NEIGHBOUR, NOW_S) == ""
    limits.disconnect(ONE)
    assert limits.connect(ONE, NOW_S) == ""


def test_connections_at_once_of_a_network() -> None:
    limits = PeerLimits(UNLIMITED, Limits(connections_max=2))
    assert limits.connect(ONE, NOW_S) == ""
    assert limits.connect(NEIGHBOUR, NOW_S) == ""
    assert limits.connect(ONE, NOW_S) == "Too many connections from your network"
    assert limits.connect(STRANGER, NOW_S) == ""


@pytest.mark.parametrize("rate", [1, 3, 7, 60, 1000])
def test_a_minutes_worth_at_once_and_then_the_rate(rate: int) -> None:
    limits = PeerLimits(Limits(messages_per_minute=rate), UNLIMITED)
    taken = sum(limits.take(ONE, Doing.MESSAGE, NOW_S) == "" for _ in range(2 * rate))
    assert taken == rate
    assert limits.take(ONE, Doing.MESSAGE, NOW_S) == "address"
    assert limits.take(ONE, Doing.RECIPIENT, NOW_S) == ""  # A bucket of its own, or none.
    assert limits.take(ONE, Doing.MESSAGE, NOW_S + WINDOW_S / rate) == ""
    assert limits.take(ONE, Doing.MESSAGE, NOW_S + WINDOW_S / rate) == "address"


@given(st.lists(st.floats(0, 20), max_size=300), st.integers(1, 20))
def test_never_more_than_a_burst_and_the_rate(pauses: list[float], rate: int) -> None:
    limits = PeerLimits(Limits(messages_per_minute=rate), UNLIMITED)
    now_s, taken = NOW_S, 0
    for pause in pauses:
        now_s += pause
        taken += limits.take(ONE, Doing.MESSAGE, now_s) == ""
    assert taken <= rate + (now_s - NOW_S) * rate / WINDOW_S + 1


def test_what_is_refused_to_the_network_costs_the_address_nothing() -> None:
    limits = PeerLimits(Limits(messages_per_minute=2), Limits(messages_per_minute=1))
    assert limits.take(NEIGHBOUR, Doing.MESSAGE, NOW_S) == ""
    assert [limits.take(ONE, Doing.MESSAGE, NOW_S) for _ in range(5)] == ["network"] * 5
    assert limits.take(ONE, Doing.MESSAGE, NOW_S + WINDOW_S) == ""


def test_refused_connections_are_not_counted() -> None:
    limits = PeerLimits(Limits(connections_max=1, connections_per_minute=2), UNLIMITED)
    limits.connect(ONE, NOW_S)
    for _ in range(9):
        assert limits.connect(ONE, NOW_S) == "Too many connections from your address"
    limits.disconnect(ONE)
    assert limits.connect(ONE, NOW_S) == ""
    limits.disconnect(ONE)
    assert limits.connect(ONE, NOW_S) == "Too many connections a minute from your address"
    assert limits.connect(ONE, NOW_S + WINDOW_S / 2) == ""


def test_failures_refuse_connections_until_they_are_forgotten() -> None:
    limits = PeerLimits(Limits(failures_per_minute=3), UNLIMITED)
    assert [limits.fail(ONE, NOW_S) for _ in range(3)] == ["", "", "address"]
    assert limits.connect(ONE, NOW_S) == "Too many errors from your address"
    assert limits.connect(NEIGHBOUR, NOW_S) == ""
    for _ in range(100):
        limits.fail(ONE, NOW_S)
    assert limits.connect(ONE, NOW_S + WINDOW_S / 2) == "Too many errors from your address"
    assert limits.connect(ONE, NOW_S + 2 * WINDOW_S) == ""


def test_without_limits_nothing_is_remembered() -> None:
    limits = PeerLimits(UNLIMITED, UNLIMITED)
    for _ in range(1000):
        assert limits.connect(ONE, NOW_S) == ""
        assert limits.take(ONE, Doing.RECIPIENT, NOW_S) == ""
        assert limits.fail(ONE, NOW_S) == ""
    assert [len(ledger) for _, ledger in limits._ledgers] == [0, 0]


def test_the_silent_are_forgotten_first_and_open_connections_never() -> None:
    address = Limits(connections_max=1, messages_per_minute=1)
    limits = PeerLimits(address, UNLIMITED, tracked_max=10)
    limits.connect(ONE, NOW_S)
    limits.take(ONE, Doing.MESSAGE, NOW_S)
    for number in range(1000):
        other = origin(10 + number // 250, number % 250)
        assert limits.take(other, Doing.MESSAGE, NOW_S) == ""
        assert len(limits._ledgers[0][1]) <= 10
    assert limits.take(other, Doing.MESSAGE, NOW_S) == "address"
    assert limits.take(ONE, Doing.MESSAGE, NOW_S) == ""
    assert limits.connect(ONE, NOW_S) == "Too many connections from your address"
