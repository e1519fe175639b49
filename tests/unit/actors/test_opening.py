"""RayTransport's way to a shard: what is asked of whom until there is a link."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from actors import ray_ports
from actors.commands import ShardId
from actors.link import LinkAddress
from actors.ray_ports import SUPERVISOR, NotRunning, RayTransport
from mail.errors import OutcomeUnknown, Unavailable

SHARD, NAME = ShardId(7), "shard/7"
ADDRESS = LinkAddress("127.0.0.1", 1, b"key")
STEP_S = 0.02
PATIENCE_S = 10.0  # Far more than any of this takes.

LINK, ACTIVATE = (NAME, "link"), (SUPERVISOR, "activate")


class FakeLink:
    lost = False

    async def call(self, frame: bytes, *, timeout_s: float) -> bytes:
        return frame


class Scripted(RayTransport):
    """Answers each `ask` with the next line of a script: a result, an error, or an event to await.

    After the last line comes the last line again.
    """

    def __init__(self, **script: list[Any]) -> None:
        super().__init__("here", "test")
        self.asked: list[tuple[str, str]] = []
        self.third = asyncio.Event()  # three questions were asked
        self._script = script

    async def ask(self, name: str, method: str, *args: object, timeout_s: float) -> Any:
        self.asked.append((name, method))
        if len(self.asked) == 3:
            self.third.set()
        lines = self._script[method]
        line = lines.pop(0) if len(lines) > 1 else lines[0]
        if isinstance(line, asyncio.Event):
            await line.wait()
            return ADDRESS
        if isinstance(line, Exception):
            raise line
        return line

    async def arrive(self, timeout_s: float = PATIENCE_S) -> bytes:
        return await self.call(SHARD, b"frame", timeout_s=timeout_s)


NEVER: Callable[[], asyncio.Event] = asyncio.Event


@pytest.fixture(autouse=True)
def _short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_link(*_: object) -> FakeLink:
        return FakeLink()

    monkeypatch.setattr(ray_ports, "open_link", open_link)
    monkeypatch.setattr(ray_ports, "ASK_ANEW_AFTER_S", (STEP_S,) * 4)


async def test_who_runs_is_asked_once() -> None:
    transport = Scripted(link=[ADDRESS])
    assert await transport.arrive() == b"frame"
    assert await transport.arrive() == b"frame"
    assert transport.asked == [LINK]


async def test_who_rests_is_started() -> None:
    transport = Scripted(link=[NotRunning("rests"), ADDRESS], activate=[None])
    assert await transport.arrive() == b"frame"
    assert transport.asked == [LINK, ACTIVATE, LINK]


async def test_an_answer_that_is_lost_costs_a_step() -> None:
    transport = Scripted(link=[NEVER(), ADDRESS])
    assert await transport.arrive() == b"frame"
    assert transport.asked == [LINK, LINK]


async def test_every_step_may_be_lost() -> None:
    transport = Scripted(
        link=[NEVER(), NotRunning("rests"), NEVER(), ADDRESS], activate=[NEVER(), None]
    )
    assert await transport.arrive() == b"frame"
    assert transport.asked == [LINK, LINK, ACTIVATE, ACTIVATE, LINK, LINK]


async def test_who_is_slow_is_heard_when_it_answers() -> None:
    slow = asyncio.Event()
    transport = Scripted(link=[slow, NEVER()])
    arriving = asyncio.create_task(transport.arrive())
    await transport.third.wait()
    slow.set()  # To the first call; the others are never answered.
    assert await arriving == b"frame"


async def test_a_handle_that_leads_nowhere_is_looked_up_anew() -> None:
    transport = Scripted(link=[NEVER(), ADDRESS])
    transport._handles[NAME] = object()
    assert await transport.arrive() == b"frame"
    assert NAME not in transport._handles


async def test_an_actor_that_ended_for_good_is_looked_for_at_once() -> None:
    """Of such a one `ask` has forgotten the handle."""
    transport = Scripted(link=[OutcomeUnknown("died"), NotRunning("rests"), ADDRESS], activate=[0])
    assert await transport.arrive() == b"frame"
    assert transport.asked == [LINK, LINK, ACTIVATE, LINK]


async def test_what_fails_is_known_at_once_and_was_not_asked() -> None:
    transport = Scripted(link=[OutcomeUnknown("restarts")])
    transport._handles[NAME] = object()
    with pytest.raises(Unavailable) as raised:
        await transport.arrive()
    assert not isinstance(raised.value, OutcomeUnknown)
    assert transport.asked == [LINK]


async def test_an_opening_outlives_who_waits_for_it() -> None:
    slow = asyncio.Event()
    transport = Scripted(link=[slow])
    with pytest.raises(Unavailable):
        await transport.arrive(timeout_s=STEP_S / 4)
    patient = [asyncio.create_task(transport.arrive()) for _ in range(3)]
    await asyncio.sleep(0)
    slow.set()
    assert await asyncio.gather(*patient) == [b"frame"] * 3
    assert transport.asked == [LINK]


async def test_an_opening_has_an_end_and_another_may_follow() -> None:
    transport = Scripted(link=[*(NEVER() for _ in range(4)), ADDRESS])
    with pytest.raises(Unavailable, match="does not answer") as raised:
        await transport.arrive()
    assert not isinstance(raised.value, OutcomeUnknown)
    assert await transport.arrive() == b"frame"
    assert transport.asked == [LINK] * 5


async def test_an_opening_is_bounded_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_ports, "OPENING_S_MAX", STEP_S / 2)
    transport = Scripted(link=[NEVER()])
    with pytest.raises(Unavailable, match="does not answer"):
        await transport.arrive()
    assert transport.asked == [LINK]


async def test_an_opening_that_fails_with_nobody_waiting_is_silent() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    transport = Scripted(link=[NEVER(), OutcomeUnknown("gone"), NotRunning("gone")], activate=[0])
    with pytest.raises(Unavailable):
        await transport.arrive(timeout_s=STEP_S / 4)
    await asyncio.wait(transport._opening.values())
    gc.collect()  # asyncio would complain when the task is gone.
    assert told == []
