"""Farewells: who lingers, for how much, and who does not."""

from __future__ import annotations

import asyncio
from typing import cast

from gateways.smtp.farewell import LINGER_BYTES_MAX, LINGERING_MAX, Farewells


class FakeTransport:
    def __init__(self, *, half_closes: bool = True, cut: bool = False) -> None:
        self.said: list[str] = []
        self.protocol: asyncio.Protocol | None = None
        self._half_closes = half_closes
        self._cut = cut

    def is_closing(self) -> bool:
        return "close" in self.said or "abort" in self.said

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol

    def can_write_eof(self) -> bool:
        return self._half_closes

    def write_eof(self) -> None:
        if self._cut:
            raise OSError
        self.said.append("eof")

    def resume_reading(self) -> None:
        self.said.append("resume")

    def pause_reading(self) -> None:
        self.said.append("pause")

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.said.append("close")

    def abort(self) -> None:
        self.said.append("abort")


def linger(farewells: Farewells, transport: FakeTransport) -> asyncio.Protocol:
    farewells.linger(cast(asyncio.Transport, transport))
    assert transport.protocol is not None
    return transport.protocol


async def test_our_side_is_closed_and_input_goes_on() -> None:
    farewells, transport = Farewells(), FakeTransport()
    protocol = linger(farewells, transport)
    protocol.data_received(b"x" * 1000)
    assert transport.said == ["eof", "resume"]
    assert not protocol.eof_received()  # The transport then closes.
    assert len(farewells) == 1
    protocol.connection_lost(None)
    assert len(farewells) == 0
    await farewells.over(10.0)
    assert transport.said == ["eof", "resume"]


async def test_tls_is_listened_to_without_a_half_close() -> None:
    farewells, transport = Farewells(), FakeTransport(half_closes=False)
    linger(farewells, transport)
    assert transport.said == ["resume"]
    await farewells.over(0.0)
    assert transport.said == ["resume", "close"]
    assert len(farewells) == 0


async def test_too_much_is_not_read() -> None:
    farewells, transport = Farewells(), FakeTransport()
    linger(farewells, transport).data_received(bytes(LINGER_BYTES_MAX))
    assert transport.said == ["eof", "resume", "pause"]
    await farewells.over(0.0)


async def test_a_peer_that_has_just_gone() -> None:
    farewells, transport = Farewells(), FakeTransport(cut=True)
    linger(farewells, transport)
    assert transport.said == ["abort"]
    await farewells.over(0.0)


async def test_no_more_linger_than_the_limit() -> None:
    farewells = Farewells()
    for _ in range(LINGERING_MAX):
        linger(farewells, FakeTransport())
    late = FakeTransport()
    farewells.linger(cast(asyncio.Transport, late))
    assert late.said == ["close"]
    await farewells.over(0.0)
