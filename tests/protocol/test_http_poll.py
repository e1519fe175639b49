"""Long polling: at once when something differs, later when it changes, 204 when nothing does."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from gateways.http import poll
from mail.errors import Unavailable
from tests.protocol.http_fakes import ALICE, ALICE_ID, PATIENCE_S, House, running

URL = "/jmap/poll"
ALL = {"Email": "7", "Mailbox": "5", "Thread": "6"}


async def polled(house: House, **query: Any) -> httpx.Response:
    async with house.client() as client, asyncio.timeout(PATIENCE_S):
        return await client.get(URL, params=query)


def change(push_state: str, **states: str) -> dict[str, Any]:
    return {"@type": "StateChange", "changed": {ALICE_ID: states}, "pushState": push_state}


async def test_who_knows_nothing_or_something_old_hears_at_once() -> None:
    async with running() as house:
        for query in ({}, {"since": ""}, {"since": "x"}, {"since": "1.2"}, {"wait": 0}):
            answer = await polled(house, **query)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.json() == change("7.5.6", **ALL)
        answer = await polled(house, since="6.5.6")
        assert answer.json() == change("7.5.6", Email="7")
        await house.push.until_listeners(ALICE, 0)
        async with house.client() as client:
            text = (await client.get("/metrics")).text
            assert 'heliograph_http_pushes_total{channel="poll"} 6.0' in text


async def test_nothing_changed_is_204() -> None:
    async with running() as house:
        answer = await polled(house, since="7.5.6", wait=0)
        assert (answer.status_code, answer.content) == (204, b"")
        answer = await polled(house, types="Nonsense", wait=0)
        assert answer.status_code == 204


async def test_a_change_is_heard_while_waiting_and_a_beat_is_not() -> None:
    async with running() as house:
        waiting = asyncio.create_task(polled(house, since="7.5.6", wait=20, types="Mailbox"))
        await house.push.until_listeners(ALICE, 1)
        house.push.beat(ALICE)
        house.push.change(ALICE, 8, 5, 6)
        await asyncio.sleep(0.05)
        assert not waiting.done()
        house.push.change(ALICE, 9, 6, 6)
        assert (await waiting).json() == change("9.6.6", Mailbox="6")


async def test_the_wait_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    assert poll.WAIT_S <= poll.WAIT_S_MAX < 30
    monkeypatch.setattr(poll, "WAIT_S_MAX", 0)
    async with running() as house:
        assert (await polled(house, since="7.5.6", wait=86_400)).status_code == 204


async def test_wrong_parameters() -> None:
    async with running() as house:
        for query in ({"wait": "-1"}, {"wait": "x"}, {"wait": "²"}, {"types": "," * 70}):
            assert (await polled(house, **query)).status_code == 400


async def test_a_mailbox_that_cannot_be_reached_is_not_said_to_be_unchanged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(poll, "REACH_S", -1.0)
    async with running() as house:
        house.push.failures = [Unavailable()] * 9
        answer = await polled(house, since="7.5.6", wait=0)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1


async def test_polls_of_an_account_have_a_limit_and_end_at_drain() -> None:
    async with running(polls_per_account_max=1) as house:
        waiting = asyncio.create_task(polled(house, since="7.5.6"))
        await house.push.until_listeners(ALICE, 1)
        assert (await polled(house)).status_code == 400
        draining = asyncio.create_task(house.gateway.drain())
        assert (await waiting).status_code == 503
        await draining
        assert house.push.listeners[ALICE.mailbox] == []


async def test_it_ends_with_the_client_and_with_the_sign_in() -> None:
    async with running() as house:
        waiting = asyncio.create_task(polled(house, since="7.5.6"))
        await house.push.until_listeners(ALICE, 1)
        waiting.cancel()
        await house.push.until_listeners(ALICE, 0)
        waiting = asyncio.create_task(polled(house, since="7.5.6"))
        await house.push.until_listeners(ALICE, 1)
        house.accounts.end_all()
        assert (await waiting).status_code == 401
        async with house.client(None) as client:
            assert (await client.get(URL)).status_code == 401
