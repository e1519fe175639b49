"""Subscriptions end when they are not renewed; the hub tells changes, and the rest by beats."""

from __future__ import annotations

import asyncio

import pytest

from actors import push
from actors.commands import GatewayId, MailboxId, MailboxState, ShardId, States
from actors.push import PushHub, Subscriptions
from mail.errors import Unavailable

ONE, G = MailboxId(1), GatewayId("g")


def state(number: int) -> MailboxState:
    return MailboxState(ONE, number, 0, 0)


def test_a_subscription_ends_when_it_is_not_renewed() -> None:
    subscriptions = Subscriptions()
    subscriptions.add(G, (ONE,), until_ms=100)
    assert subscriptions.followers(ONE, 99) == [G]
    subscriptions.add(G, (ONE,), until_ms=200)
    assert subscriptions.followers(ONE, 150) == [G]
    assert subscriptions.followers(ONE, 200) == []
    subscriptions.add(G, (ONE,), until_ms=300)
    subscriptions.remove(G, (ONE,))
    assert subscriptions.followers(ONE, 250) == []


class Shard:
    """A shard that answers with its present state, or not."""

    def __init__(self) -> None:
        self.number = 1
        self.away = False
        self.forgotten: list[MailboxId] = []

    async def renew(self, shard: ShardId, mailboxes: tuple[MailboxId, ...]) -> States:
        if self.away:
            raise Unavailable
        return States(tuple(state(self.number) for _ in mailboxes))

    async def forget(self, shard: ShardId, mailboxes: tuple[MailboxId, ...]) -> None:
        self.forgotten += mailboxes


@pytest.fixture
def quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "BEAT_S", 0.01)
    monkeypatch.setattr(push, "BEAT_AFTER_FAILURE_S", 0.01)


async def _until(heard: list[MailboxState], wanted: MailboxState) -> None:
    for _ in range(300):
        if heard and heard[-1] == wanted:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(heard)


@pytest.mark.usefixtures("quick_beats")
async def test_a_lost_notification_shows_at_the_next_beat_and_after_a_failure() -> None:
    shard, heard = Shard(), list[MailboxState]()
    hub = PushHub(shard.renew, shard.forget)
    end = await hub.subscribe(ShardId(2), ONE, heard.append)
    assert heard[-1] == state(1)
    hub.heard(state(2))
    assert heard[-1] == state(2)
    hub.heard(state(1))
    assert heard[-1] == state(2), "an older state is no news"
    shard.number = 5  # Its notification was lost.
    await _until(heard, state(5))
    shard.away = True
    await asyncio.sleep(0.05)
    shard.number, shard.away = 7, False
    await _until(heard, state(7))
    end()
    await asyncio.sleep(0.02)
    assert shard.forgotten == [ONE]
    await hub.close()


@pytest.mark.usefixtures("quick_beats")
async def test_the_present_state_is_repeated_when_nothing_happens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(push, "SILENT_S_MAX", 0.02)
    shard, heard = Shard(), list[MailboxState]()
    hub = PushHub(shard.renew, shard.forget)
    await hub.subscribe(ShardId(2), ONE, heard.append)
    count = len(heard)
    await asyncio.sleep(0.2)
    assert len(heard) >= count + 2
    await hub.close()


@pytest.mark.usefixtures("quick_beats")
async def test_a_listener_that_fails_is_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "SILENT_S_MAX", 0.02)
    shard, heard = Shard(), list[MailboxState]()
    hub = PushHub(shard.renew, shard.forget)
    broken = False

    def fails(state: MailboxState) -> None:
        if broken:
            raise RuntimeError("its socket is gone")

    await hub.subscribe(ShardId(2), ONE, fails)
    await hub.subscribe(ShardId(2), ONE, heard.append)
    broken = True
    hub.heard(state(2))
    assert heard[-1] == state(2)
    shard.number = 5
    await _until(heard, state(5))
    await hub.close()


def test_the_beat_keeps_the_promise_of_thirty_seconds() -> None:
    assert push.BEAT_S + push.SILENT_S_MAX < 30
    assert push.SUBSCRIPTION_TTL_MS > 3 * push.BEAT_S * 1000
