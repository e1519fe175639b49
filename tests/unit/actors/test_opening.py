"""RayTransport's way to a primary: what is asked of whom until there is a link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors import ray_ports, reports
from actors.commands import ShardId
from actors.link import LinkAddress
from actors.ray_ports import NotRunning, RayTransport, supervisor_name
from actors.reports import Found, Led
from mail.errors import OutcomeUnknown, Unavailable

SHARD = ShardId(7)
SUPERVISOR, FIRST, SECOND = (LinkAddress("127.0.0.1", port, b"key") for port in (1, 2, 3))
STEP_S = 0.02
PATIENCE_S = 10.0  # Far more than any of this takes.
NEVER: Callable[[], asyncio.Event] = asyncio.Event


class FakeLink:
    """A link to whoever listens at `address`: a replica echoes, the supervisor answers."""

    def __init__(self, address: LinkAddress, world: World) -> None:
        self.address = address
        self.lost = False
        self._world = world

    async def call(self, frame: bytes, *, timeout_s: float) -> bytes:
        if self.address != SUPERVISOR:
            return frame
        line = self._world.next("find")
        if isinstance(line, asyncio.Event):
            await line.wait()
            line = (FIRST,)
        if isinstance(line, Exception):
            raise line
        return reports.encode(Found(line))

    def end(self) -> None:
        self.lost = True


class World:
    """What Ray and the supervisor answer, line by line; the last line again and again."""

    def __init__(self, **script: list[Any]) -> None:
        self.script = script
        self.asked: list[str] = []
        self.opened: list[LinkAddress] = []

    def next(self, what: str) -> Any:
        self.asked.append(what)
        lines = self.script[what]
        return lines.pop(0) if len(lines) > 1 else lines[0]


class Scripted(RayTransport):
    def __init__(self, world: World) -> None:
        super().__init__("here", "test", "n1")
        self.world = world

    async def ask(self, name: str, method: str, *args: object, timeout_s: float) -> Any:
        assert (name, method) == (supervisor_name("n1"), "link")
        line = self.world.next("link")
        if isinstance(line, asyncio.Event):
            await line.wait()
            return SUPERVISOR
        if isinstance(line, Exception):
            raise line
        return line

    async def arrive(self, timeout_s: float = PATIENCE_S) -> LinkAddress:
        """Call the shard once; return where the call went."""
        await self.call(SHARD, b"frame", timeout_s=timeout_s)
        return self._addresses[SHARD]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Scripted]:
    def make(**script: list[Any]) -> Scripted:
        world = World(**{"link": [SUPERVISOR], **script})

        async def open_link(address: LinkAddress, *_: object) -> FakeLink:
            world.opened.append(address)
            return FakeLink(address, world)

        monkeypatch.setattr(ray_ports, "open_link", open_link)
        monkeypatch.setattr(ray_ports, "ASK_ANEW_AFTER_S", (STEP_S,) * 4)
        return Scripted(world)

    return make


async def test_who_leads_is_looked_for_once(at: Callable[..., Scripted]) -> None:
    transport = at(find=[(FIRST, SECOND)])
    assert await transport.arrive() == await transport.arrive() == FIRST
    assert transport.world.asked == ["link", "find"]
    assert transport.world.opened == [SUPERVISOR, FIRST]


async def test_who_leads_no_more_is_not_asked_again(at: Callable[..., Scripted]) -> None:
    transport = at(find=[(FIRST, SECOND), (SECOND, FIRST)])
    assert await transport.arrive() == FIRST
    transport.misled(SHARD)
    assert await transport.arrive() == SECOND


async def test_a_call_does_not_wait_for_a_primary_that_was_succeeded(
    at: Callable[..., Scripted],
) -> None:
    transport = at(find=[(FIRST,), (SECOND,)])
    await transport.arrive()
    link = transport._links[SHARD]
    transport._supervisor_noticed(reports.encode(Led(((SHARD, FIRST), (ShardId(8), SECOND)))))
    assert not link.lost
    transport._supervisor_noticed(reports.encode(Led(((SHARD, SECOND),))))
    assert link.lost, "its calls fail now, and are made anew"
    assert await transport.arrive() == SECOND


async def test_a_shard_without_replicas_is_temporarily_away(at: Callable[..., Scripted]) -> None:
    transport = at(find=[(), (FIRST,)])
    with pytest.raises(Unavailable) as raised:
        await transport.arrive()
    assert not isinstance(raised.value, OutcomeUnknown)
    assert await transport.arrive() == FIRST


async def test_without_a_supervisor_those_of_before_are_tried_in_turn(
    at: Callable[..., Scripted],
) -> None:
    transport = at(find=[(FIRST, SECOND), OutcomeUnknown("gone")])
    assert await transport.arrive() == FIRST
    transport.misled(SHARD)
    assert await transport.arrive() == SECOND
    transport.misled(SHARD)
    assert await transport.arrive() == FIRST


async def test_an_answer_of_ray_that_is_lost_costs_a_step(at: Callable[..., Scripted]) -> None:
    transport = at(link=[NEVER(), NEVER(), SUPERVISOR], find=[(FIRST,)])
    assert await transport.arrive() == FIRST
    assert transport.world.asked == ["link", "link", "link", "find"]


async def test_a_supervisor_that_does_not_run_was_not_asked(at: Callable[..., Scripted]) -> None:
    transport = at(link=[NotRunning("rests"), SUPERVISOR], find=[(FIRST,)])
    with pytest.raises(Unavailable) as raised:
        await transport.arrive()
    assert not isinstance(raised.value, OutcomeUnknown)
    assert await transport.arrive() == FIRST


async def test_an_opening_outlives_who_waits_for_it(at: Callable[..., Scripted]) -> None:
    slow = asyncio.Event()
    transport = at(find=[slow])
    with pytest.raises(Unavailable):
        await transport.arrive(timeout_s=STEP_S / 4)
    patient = [asyncio.create_task(transport.arrive()) for _ in range(3)]
    await asyncio.sleep(0)
    slow.set()
    assert await asyncio.gather(*patient) == [FIRST] * 3
    assert transport.world.asked == ["link", "find"]


async def test_an_opening_has_an_end_and_another_may_follow(at: Callable[..., Scripted]) -> None:
    transport = at(link=[*(NEVER() for _ in range(4)), SUPERVISOR], find=[(FIRST,)])
    with pytest.raises(Unavailable, match="does not answer") as raised:
        await transport.arrive()
    assert not isinstance(raised.value, OutcomeUnknown)
    assert await transport.arrive() == FIRST
    assert transport.world.asked == ["link"] * 5 + ["find"]
