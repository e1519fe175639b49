"""The bound on octets in flight."""

from __future__ import annotations

import pytest

from gateways.smtp.reception import BytesInFlight, Hold


def test_a_hold_grows_within_the_bound_and_gives_back() -> None:
    in_flight = BytesInFlight(10)
    with Hold(in_flight) as first, Hold(in_flight) as second:
        assert first.grow(6)
        assert not second.grow(5)
        assert second.grow(4)
        assert in_flight.held_bytes == 10
        assert not in_flight.has_room(1)
        first.release()
        assert in_flight.held_bytes == 4
        assert second.grow(6)
    assert in_flight.held_bytes == 0


def test_a_hold_gives_back_when_something_breaks() -> None:
    in_flight = BytesInFlight(10)

    def broken() -> None:
        with Hold(in_flight) as hold:
            assert hold.grow(10)
            raise ValueError("broke")

    with pytest.raises(ValueError, match="broke"):
        broken()
    assert in_flight.has_room(10)
